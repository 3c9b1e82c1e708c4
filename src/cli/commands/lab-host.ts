import type { CommandModule } from 'yargs';
import { runDockerHost } from '../../lab/docker/host.js';

/** What the compose lab's containers run; docker-compose.yml has it. */
export const labHostCommand: CommandModule<object, { containers: number }> = {
  command: 'host',
  describe: 'Be a host of the compose lab: host --containers 2 -- ARGUMENTS OF tweed run',
  builder: (yargs) =>
    yargs
      .option('containers', { type: 'number', default: 2, describe: 'How many containers it has' })
      .parserConfiguration({ 'populate--': true, 'parse-numbers': true, 'parse-positional-numbers': false }),
  handler: async ({ containers, '--': words }) => {
    const stop = new AbortController();
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort());
    process.exitCode = await runDockerHost(containers, (words as string[] | undefined) ?? [], stop.signal);
  },
};
