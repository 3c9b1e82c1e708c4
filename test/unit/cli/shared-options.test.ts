import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import yargs from 'yargs';
import { runFlags } from '../../../src/cli/flag-table.js';
import { OptionError, resolveFlags } from '../../../src/cli/flags.js';
import { daemonFlags, withDaemonFlags } from '../../../src/cli/shared-options.js';

const names = ['etcd-prefix', 'iface', 'socket-buffer', 'ip-masq'];
const table = runFlags.filter(({ name }) => names.includes(name));

/** As a command of yargs reads them. */
const byYargs = (argv: readonly string[]) =>
  daemonFlags(
    withDaemonFlags(yargs([...argv]), names)
      .strict()
      .parseSync() as Record<string, unknown>,
    names,
  );
const values = (flags: ReturnType<typeof byYargs>) =>
  Object.fromEntries([...flags].map(([name, { value, origin }]) => [name, [value, origin]]));

describe("the daemon's flags behind another command", () => {
  it('mean what they mean to the daemon', () => {
    const text = fc.stringMatching(/^[\w./:=,]([\w ./:=,-]*[\w./:=,])?$/);
    const argument = fc.oneof(
      text.map((value) => `--etcd-prefix=${value}`),
      text.map((value) => `--iface=${value.replaceAll(',', '.')}`),
      fc.integer({ min: 4096, max: 1e6 }).map((value) => `--socket-buffer=${value}`),
      fc.constantFrom('--socket-buffer=0x2000', '--socket-buffer=010000', '--ip-masq', '--ip-masq=false'),
    );
    fc.assert(
      fc.property(fc.array(argument, { maxLength: 6 }), (argv) => {
        expect(values(byYargs(argv))).toEqual(values(resolveFlags(table, argv, process.env)));
      }),
    );
  });

  it('are checked by the same rules', () => {
    expect(() => byYargs(['--socket-buffer=1'])).toThrow(OptionError);
    expect(() => byYargs(['--socket-buffer=1', '--socket-buffer=8192'])).toThrow(/-socket-buffer=1: the value must be/);
  });

  it('are taken from the arguments only as far as the command has them', () => {
    const flags = daemonFlags({ 'etcd-prefix': '/x', json: true }, ['etcd-prefix'], runFlags);
    expect(flags.get('etcd-prefix')).toMatchObject({ value: '/x', origin: 'flag' });
    expect(flags.get('json')).toMatchObject({ value: false, origin: 'default' });
  });
});
