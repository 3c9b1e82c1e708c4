import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CommandModule } from 'yargs';
import { runByYargs } from '../../../src/cli/by-yargs.js';
import { assertBuilt } from '../../support/built.js';

const program = fileURLToPath(new URL('../../../dist/cli/tweed.cjs', import.meta.url));

/** Runs tweed by a shell, which says where its output goes. @param into such as `> /dev/full` */
function run(words: string, into: string) {
  const script = `set -o pipefail; "$0" "$1" ${words} ${into}`;
  const { status, stdout, stderr } = spawnSync('bash', ['-c', script, process.execPath, program], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

beforeAll(() => assertBuilt());

describe('what cannot be written', () => {
  it.each(['--help', '--version', 'run --help', 'run -check', 'completion', 'run -print-config -json'])(
    'is no success for want of room: tweed %s',
    (words) => {
      const { status, stderr } = run(words, '> /dev/full');
      expect(stderr).toBe(
        'tweed: standard output: ENOSPC: no space left on device, write; what was printed is not complete, so make room and repeat it\n',
      );
      expect(status).toBe(1);
    },
  );

  it.each(['--help', 'completion', 'run -print-config -json', 'status --watch --run-dir=/nonexistent'])(
    'is of no matter where the reader has seen enough: tweed %s',
    (words) => {
      expect(run(words, '| head -c 1 > /dev/null')).toEqual({ status: 0, stdout: '', stderr: '' });
    },
  );
});

it('commands work where the working directory was removed', () => {
  const script = 'd=$(mktemp -d) && cd "$d" && rmdir "$d" && exec "$0" "$1" docker-opts -d - -f /nonexistent/env';
  const { status, stdout, stderr } = spawnSync('bash', ['-c', script, process.execPath, program], { encoding: 'utf8' });
  expect(stderr).toBe(
    'tweed: the working directory was removed; going on in /\ntweed: /nonexistent/env does not exist yet; start the daemon first\n',
  );
  expect([status, stdout]).toEqual([0, 'DOCKER_OPTS=""\n']);
});

describe('options of the commands that yargs reads', () => {
  it.each([
    ['ping 192.0.2.1 -c', '-c needs a value'],
    ['ping 192.0.2.1 --count', '--?c(ount)? needs a value'],
    ['report -o', '-o(utput)? needs a value'],
    ['docker-opts -f', '-f needs a value'],
    ['leases --etcd-endpoints', '--etcd-endpoints needs a value'],
    ['leases --json=maybe', '--json=maybe: the value must be true or false'],
    ['ping 192.0.2.1 -c 1 -c 101', '--count: the value must be 1 to 100'],
  ])('tweed %s: one line, and status 2', (words, message) => {
    const { status, stderr } = run(words, '');
    expect(stderr).toMatch(new RegExp(`^tweed: ${message}.*\\n$`));
    expect(status).toBe(2);
  });

  it.each([
    ['ping 192.0.2.1 --run-dir=/etc --run-dir=/nonexistent', 'no daemon answers at /nonexistent/tweed.sock'],
    ['leases --etcd-endpoints=file:///etc --etcd-endpoints=file:///nonexistent', 'directory /nonexistent'],
    ['docker-opts -d - -f /etc -f /nonexistent', '/nonexistent does not exist yet'],
  ])('the last one counts: tweed %s', (words, message) => {
    expect(run(words, '').stderr).toContain(message);
  });

  it('a list is a list, and what follows a command is not looked at', async () => {
    let seen: unknown;
    const command: CommandModule = {
      command: 'look',
      builder: (args) =>
        args
          .option('iface', { type: 'string', array: true, nargs: 1, demandOption: true })
          .option('more-words', { type: 'string', array: true })
          .option('json', { type: 'boolean', default: false }),
      handler: ({ iface, moreWords, json, _: words }) => {
        seen = { iface, moreWords, json, words };
      },
    };
    const lists = ['--iface=a', '--iface', 'b', '--more-words=c', '--more-words=--d'];
    await runByYargs(command, ['look', ...lists, '--json', '--json', '--', '--json=x']).catch(String);
    expect(seen).toEqual({ iface: ['a', 'b'], moreWords: ['c', '--d'], json: true, words: ['look', '--json=x'] });
  });
});
