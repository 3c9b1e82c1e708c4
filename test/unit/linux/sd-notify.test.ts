import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SOCK_CLOEXEC, SOCK_DGRAM } from '../../../src/linux/constants.js';
import { control } from '../../../src/linux/libc.js';
import { sendUnixDatagram, unixSocketAddress } from '../../../src/linux/unix-datagram.js';

const AF_UNIX = 1;

let directory: string;
let listener = -1;

beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tweed-notify-'));
});
afterEach(() => {
  if (listener >= 0) control.close(listener);
  listener = -1;
  fs.rmSync(directory, { recursive: true });
});

function listen(address: string): void {
  listener = control.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const bytes = unixSocketAddress(address);
  expect(control.bind(listener, bytes, bytes.length)).toBe(0);
}

/** The datagram is in the queue before the sender returns, so this does not block. */
function receive(): string {
  const buffer = Buffer.alloc(65_536);
  return buffer.subarray(0, fs.readSync(listener, buffer)).toString();
}

describe('a datagram to a unix socket', () => {
  it.each([
    ['a path', () => path.join(directory, 'notify')],
    ['an abstract name', () => `@tweed-test-${process.pid}-${Date.now()}`],
  ])('reaches %s', (_, name) => {
    const address = name();
    listen(address);
    sendUnixDatagram(address, 'READY=1');
    sendUnixDatagram(address, 'STATUS=für alle\nWATCHDOG=1');
    expect(receive()).toBe('READY=1');
    expect(receive()).toBe('STATUS=für alle\nWATCHDOG=1');
  });

  it('has an address as unix(7) wants it', () => {
    expect([...unixSocketAddress('/a')]).toEqual([1, 0, 0x2f, 0x61, 0]);
    expect([...unixSocketAddress('@a')]).toEqual([1, 0, 0, 0x61]);
  });

  it('fails with a reason when nobody listens or the name is too long', () => {
    expect(() => sendUnixDatagram(path.join(directory, 'nobody'), 'x')).toThrow('ENOENT');
    expect(() => sendUnixDatagram(`/${'x'.repeat(107)}`, 'x')).toThrow('ENAMETOOLONG');
  });
});
