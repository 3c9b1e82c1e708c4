import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { lockInstance } from '../../../src/daemon/instance-lock.js';

let directory: string;

beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tweed-lock-'));
});
afterEach(() => fs.rmSync(directory, { recursive: true }));

const locks = () => fs.readdirSync(directory);

it('lets one daemon in, tells the other who has it, and is free again afterwards', () => {
  const lock = lockInstance('device flannel0', directory);
  expect(() => lockInstance('device flannel0', directory)).toThrow(
    `another tweed (process ${process.pid}) already serves the device flannel0`,
  );
  lock.release();
  expect(locks()).toEqual([]);
  lockInstance('device flannel0', directory).release();
});

it('keeps what is different apart', () => {
  const held = ['device flannel0', 'device flannel1', 'network 10.5.0.0/16', 'network 10.5.0.0/17'].map((name) =>
    lockInstance(name, directory),
  );
  expect(locks()).toHaveLength(4);
  for (const lock of held) lock.release();
});

it('does not mind a file that a killed daemon left', () => {
  lockInstance('device flannel0', directory).release();
  const lock = lockInstance('device flannel0', directory);
  const [file = ''] = locks();
  lock.release();
  fs.writeFileSync(path.join(directory, file), '4711\n');
  lockInstance('device flannel0', directory).release();
});

it('is given back although somebody looks at the file, and keeps looking', async () => {
  const lock = lockInstance('device flannel0', directory);
  const [file = ''] = locks();
  const reader = spawn('tail', ['-f', path.join(directory, file)]);
  try {
    await vi.waitFor(() => expect(fs.existsSync(`/proc/${reader.pid}/fd/3`)).toBe(true), { timeout: 5000 });
    lock.release();
    lockInstance('device flannel0', directory).release();
  } finally {
    reader.kill();
  }
});

it('follows no link that lies where the lock should be', () => {
  const lock = lockInstance('device flannel0', directory);
  const [file = ''] = locks();
  lock.release();
  fs.symlinkSync('/etc/hostname', path.join(directory, file));
  expect(() => lockInstance('device flannel0', directory)).toThrow('cannot lock');
});

it('says what is wrong with a directory that cannot be used', () => {
  expect(() => lockInstance('device flannel0', '/proc/nowhere')).toThrow(/cannot lock .*; run as root, with/);
});
