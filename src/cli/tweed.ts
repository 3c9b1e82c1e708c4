#!/usr/bin/env node
import yargs from 'yargs';
import { hideBin } from 'yargs/helpers';
import { version } from '../base/version.js';
import { runBenchCommand } from './commands/bench.js';
import { dockerOptsCommand } from './commands/docker-opts.js';
import { doctorCommand } from './commands/doctor.js';
import { labCommand } from './commands/lab.js';
import { leasesCommand } from './commands/leases.js';
import { logLevelCommand } from './commands/log-level.js';
import { networkCommand } from './commands/network.js';
import { pingCommand } from './commands/ping.js';
import { runDaemonCommand } from './commands/run.js';
import { statusCommand } from './commands/status.js';
import { endWith } from './exit.js';
import { OptionError } from './flags.js';

const argv = hideBin(process.argv);

await endWith('tweed', async () => {
  // The daemon takes flanneld's options, whose style yargs cannot read; yargs only lists the command in the help.
  if (argv[0] === 'run') return runDaemonCommand('tweed run', argv.slice(1));
  // so does the benchmark, which is a program of its own
  if (argv[0] === 'bench') return runBenchCommand(argv.slice(1));
  await yargs(argv)
    .scriptName('tweed')
    .usage('Usage: $0 <command>\n\nAn overlay network for containers: flannel’s udp backend, faster.')
    .command('run', "run this host's daemon (see: tweed run --help)", (run) => run.help(false))
    .command('bench', 'measure what a tunnel costs here, or compare two runs (see: tweed bench --help)')
    .command(statusCommand)
    .command(pingCommand)
    .command(doctorCommand)
    .command(networkCommand)
    .command(leasesCommand)
    .command(logLevelCommand)
    .command(dockerOptsCommand)
    .command(labCommand)
    .demandCommand(1, 'name a command; tweed --help lists them')
    .strict()
    .recommendCommands()
    .version(version)
    .wrap(Math.min(100, process.stdout.columns ?? 100))
    .fail((message, error) => {
      throw error ?? new OptionError(message);
    })
    .parseAsync();
  return Number(process.exitCode ?? 0);
});
