import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { ExecError, exec } from '../../../src/base/exec.js';
import { assertBuilt } from '../../support/built.js';

const built = fileURLToPath(new URL('../../../dist/base/exec.js', import.meta.url));

beforeAll(() => assertBuilt());
afterEach(() => vi.unstubAllEnvs());

/** A process that has so few descriptors, uses them up, calls `exec`, and then again when it has some. */
function withoutDescriptors(left: number): unknown {
  const script = `
    import fs from 'node:fs';
    import { exec } from ${JSON.stringify(built)};
    const held = [];
    try { for (;;) held.push(fs.openSync('/dev/null')); } catch {}
    for (let i = 0; i < ${left}; i++) fs.closeSync(held.pop());
    const first = await exec(['true']).then(() => 'started', (error) => error.code + ': ' + error.message);
    for (const fd of held) fs.closeSync(fd);
    const { status } = await exec(['true']);
    fs.writeSync(1, JSON.stringify({ first, status }));
  `;
  const argv = ['--nofile=48:48', process.execPath, '--input-type=module', '-e', script];
  const { stdout, stderr, status } = spawnSync('prlimit', argv, { encoding: 'utf8', timeout: 15_000 });
  expect([stderr, status]).toEqual(['', 0]);
  return JSON.parse(stdout);
}

describe('a program that cannot be started', () => {
  it.each([0, 1, 2, 3, 4, 5])('is an error where %i descriptors are left, and starts when there are more', (left) => {
    expect(withoutDescriptors(left)).toEqual({
      first: expect.stringMatching(/^EXEC_FAILED: true: not started \((EMFILE|ENFILE)\), no file descriptor is left/),
      status: 0,
    });
  });

  it('is named when it is not there', async () => {
    await expect(exec(['/no/such/program'])).rejects.toThrow('/no/such/program is not installed');
  });

  it('is an error of the same class when the arguments cannot be passed', async () => {
    await expect(exec(['true', 'a\0b'])).rejects.toBeInstanceOf(ExecError);
    await expect(exec(['true', 'x'.repeat(2 ** 20)])).rejects.toBeInstanceOf(ExecError);
  });
});

describe('a program that was started', () => {
  it('is ended when it takes too long, or prints too much', async () => {
    await expect(exec(['sleep', '60'], { timeoutMs: 50 })).rejects.toThrow('ended by SIGKILL');
    await expect(exec(['yes'], { outputLimit: 100_000 })).rejects.toThrow('printed more than 100000 bytes');
  });

  it('gets none of what is for this process only', async () => {
    const secrets = {
      FLANNELD_ETCD_PASSWORD: 'hunter2',
      FLANNELD_ETCD_USERNAME: 'x',
      ETCDCTL_USER: 'root:hunter2',
      TWEED_DEVICE: 'x',
      NODE_OPTIONS: '--no-warnings',
      NOTIFY_SOCKET: '/run/x',
      WATCHDOG_USEC: '1',
    };
    for (const [name, value] of Object.entries(secrets)) vi.stubEnv(name, value);
    const { stdout } = await exec(['env']);
    expect(stdout).toMatch(/^PATH=/m);
    for (const name of Object.keys(secrets)) expect(stdout).not.toContain(`${name}=`);
    expect(stdout).not.toContain('hunter2');
  });
});
