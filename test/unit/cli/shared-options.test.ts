import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import yargs from 'yargs';
import { withFile } from '../../../src/cli/commands/config.js';
import { runFlags } from '../../../src/cli/flag-table.js';
import { OptionError, resolveFlags } from '../../../src/cli/flags.js';
import { knownFlags, type Sources } from '../../../src/cli/known-flags.js';
import { withDaemonFlags } from '../../../src/cli/shared-options.js';

const names = ['etcd-prefix', 'iface', 'socket-buffer', 'ip-masq'];
const table = runFlags.filter(({ name }) => names.includes(name));

const nobody: Sources = { environment: process.env, settings: null, silent: null, file: {} };

/** As a command of yargs reads them. */
const byYargs = (argv: readonly string[]) =>
  knownFlags(
    withDaemonFlags(yargs([...argv]), names)
      .strict()
      .parseSync() as Record<string, unknown>,
    names,
    table,
    nobody,
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
    const flags = knownFlags({ 'etcd-prefix': '/x', json: true }, ['etcd-prefix'], runFlags, nobody);
    expect(flags.get('etcd-prefix')).toMatchObject({ value: '/x', origin: 'flag' });
    expect(flags.get('json')).toMatchObject({ value: false, origin: 'default' });
  });
});

describe('what a command was not told', () => {
  const all = ['etcd-endpoints', 'etcd-prefix', 'etcd-password', 'iface'];
  const flags = runFlags.filter(({ name }) => all.includes(name));
  const setting = (name: string, value: string | string[]) => ({ name, value, from: `-${name}` });
  const daemon = [
    setting('etcd-endpoints', 'http://daemon:2379'),
    setting('etcd-prefix', '/daemon'),
    setting('etcd-password', '***'),
    setting('iface', ['eth1', 'eth2']),
  ];
  const file = {
    FLANNELD_ETCD_ENDPOINTS: 'http://file:2379',
    FLANNELD_ETCD_PASSWORD: 'secret',
    FLANNELD_IFACE: 'eth9',
  };
  const shell = { FLANNELD_ETCD_ENDPOINTS: 'http://shell:2379' };
  const standard = 'http://127.0.0.1:4001,http://127.0.0.1:2379';

  it.each<[string, Record<string, unknown>, Partial<Sources>, unknown[]]>([
    ['nobody knows', {}, {}, [standard, '/coreos.com/network', '', []]],
    ['the file does', {}, { file }, ['http://file:2379', '/coreos.com/network', 'secret', ['eth9']]],
    ['the daemon does', {}, { settings: daemon, file }, ['http://daemon:2379', '/daemon', 'secret', ['eth1', 'eth2']]],
    [
      'the shell names the servers',
      {},
      { settings: daemon, file, environment: shell },
      ['http://shell:2379', '/coreos.com/network', '', ['eth1', 'eth2']],
    ],
    [
      'the arguments do',
      { 'etcd-endpoints': 'http://here:1', iface: ['eth5'] },
      { settings: daemon, file },
      ['http://here:1', '/coreos.com/network', '', ['eth5']],
    ],
    [
      'only the prefix is another',
      { 'etcd-prefix': '/other' },
      { settings: daemon },
      ['http://daemon:2379', '/other', '', ['eth1', 'eth2']],
    ],
  ])('when %s', (_, args, sources, expected) => {
    const known = knownFlags(args, all, flags, { environment: {}, settings: null, silent: null, file: {}, ...sources });
    expect(all.map((name) => known.get(name)?.value)).toEqual(expected);
  });

  it('is shown with the file that it came from', () => {
    const from = (value: string, variable: string) =>
      withFile([{ name: 'x', value, from: variable }], { A: 'a' })[0]?.from;
    expect(from('a', 'A')).toBe('A in /etc/tweed.env');
    expect(from('b', 'A')).toBe('A');
    expect(from('a', '-x')).toBe('-x');
  });
});
