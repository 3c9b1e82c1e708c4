import { describe, expect, it } from 'vitest';
import { joiningIpTool, type Run } from '../../../src/routes/ip.js';

const link = { ifname: 'eth0', addr_info: [] };
const route = { dst: '10.5.0.0/16', dev: 'eth0' };

/** A tool on a host where `ip` prints that, and what was run. */
function toolThat(prints: (argv: readonly string[], input: string) => string, stderr = '') {
  const runs: (readonly [string, string])[] = [];
  const run: Run = async (argv, { input = '' } = {}) => {
    runs.push([argv.slice(1).join(' '), input]);
    return { status: 0, stdout: prints(argv, input), stderr: argv.includes('-batch') ? stderr : '' };
  };
  return { ip: joiningIpTool(run), runs };
}

const alone = (argv: readonly string[]) => JSON.stringify(argv.includes('route') ? [route] : [link]);

describe('questions to ip that are asked together', () => {
  it('are put to one process, and each once', async () => {
    const { ip, runs } = toolThat(() => `${JSON.stringify([link])}\n[]\n`);
    const answers = await Promise.all([
      ip.json('-details', 'address', 'show'),
      ip.json('-4', '-details', 'route', 'show', 'table', 'main'),
      ip.json('address', 'show'),
    ]);
    expect(answers).toEqual([[link], [], [link]]);
    expect(runs).toEqual([['-json -details -force -batch -', 'address show\nroute show table main\n']]);
  });

  it.each([
    ['prints nothing for an empty answer', `${JSON.stringify([link])}\n`, ''],
    ['leaves the addresses out', `[{"ifname":"eth0"}]\n[]\n`, ''],
    ['refuses one', `${JSON.stringify([link])}\n`, 'Cannot find device "x"\nCommand failed -:2\n'],
    ['prints something else', 'no JSON\n\n', ''],
  ])('are asked apart where ip %s', async (_, together, stderr) => {
    const { ip, runs } = toolThat((argv) => (argv.includes('-batch') ? together : alone(argv)), stderr);
    expect(await Promise.all([ip.json('address', 'show'), ip.json('route', 'show')])).toEqual([[link], [route]]);
    expect(runs.map(([words]) => words).slice(1)).toEqual(['-json -details address show', '-json -details route show']);
  });

  it('are asked apart by themselves: one alone, of IPv6, or with words that a batch would not understand', async () => {
    const { ip, runs } = toolThat(alone);
    await ip.json('address', 'show');
    await Promise.all([ip.json('-6', 'route', 'show'), ip.json('address', 'show', 'dev', 'a"b')]);
    expect(runs.map(([words]) => words)).toEqual([
      '-json -details address show',
      '-json -6 route show',
      '-json address show dev a"b',
    ]);
  });
});
