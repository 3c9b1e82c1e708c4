import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Inheritance, inheritedFrom } from '../../../src/linux/inheritance.js';
import { control } from '../../../src/linux/libc.js';
import { sendUnixDatagram, UnixReceiver } from '../../../src/linux/unix-datagram.js';

describe('what is inherited', () => {
  const closed: number[] = [];
  let inheritance: Inheritance;
  beforeEach(() => {
    closed.length = 0;
    inheritance = new Inheritance((fd) => void closed.push(fd));
  });

  it('belongs to whoever takes it; the rest is closed', () => {
    inheritance.put('tun', 5);
    inheritance.put('udp', 6);
    expect(inheritance.take('tun')).toBe(5);
    expect(inheritance.take('tun')).toBeNull();
    inheritance.close();
    inheritance.close();
    expect(closed).toEqual([6]);
    expect(inheritance.empty).toBe(true);
  });

  it('is taken by what names begin with', () => {
    for (const [i, name] of ['tun', 'link,1', 'links', 'link,2'].entries()) inheritance.put(name, i);
    expect([...inheritance.takeAll('link,')]).toEqual([
      ['link,1', 1],
      ['link,2', 3],
    ]);
    expect([...inheritance.takeAll('link,')]).toEqual([]);
    inheritance.close();
    expect(closed).toEqual([0, 2]);
  });

  it('is closed when another of its name comes', () => {
    inheritance.put('tun', 5);
    inheritance.put('tun', 7);
    expect(closed).toEqual([5]);
    expect(inheritance.take('tun')).toBe(7);
  });
});

describe('what a service manager passes on', () => {
  it.each([
    ['for another process', { LISTEN_PID: '1', LISTEN_FDS: '2', LISTEN_FDNAMES: 'tun:udp' }],
    ['that makes no sense', { LISTEN_PID: String(process.pid), LISTEN_FDS: 'two' }],
    ['by none', {}],
  ])('is nothing %s, and no program that we start hears of it', (_, given) => {
    const environment: Record<string, string | undefined> = { ...given, PATH: '/bin' };
    expect(inheritedFrom(environment).empty).toBe(true);
    expect(environment).toEqual({ PATH: '/bin' });
  });
});

describe('descriptors in a datagram', () => {
  let directory: string;
  let receiver: UnixReceiver;
  let file: string;

  beforeEach(() => {
    directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tweed-fds-'));
    file = path.join(directory, 'inbox');
    receiver = new UnixReceiver(file);
  });
  afterEach(() => {
    receiver.close();
    fs.rmSync(directory, { recursive: true });
  });

  it('are copies of what was sent, in its order, closed in programs that are started', () => {
    const sent = ['a', 'b'].map((name) => {
      fs.writeFileSync(path.join(directory, name), `this is ${name}`);
      return fs.openSync(path.join(directory, name), 'r');
    });
    sendUnixDatagram(file, 'FDSTORE=1', sent);
    for (const fd of sent) fs.closeSync(fd);
    const { message, descriptors } = receiver.receive() ?? { message: '', descriptors: [] };
    expect(message).toBe('FDSTORE=1');
    expect(descriptors.map((fd) => fs.readFileSync(fd, 'utf8'))).toEqual(['this is a', 'this is b']);
    for (const fd of descriptors) {
      expect(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')).toMatch(/flags:\s+02/); // O_CLOEXEC
      fs.closeSync(fd);
    }
  });

  it('need not be there, and neither need a datagram', () => {
    expect(receiver.receive()).toBeNull();
    sendUnixDatagram(file, '');
    expect(receiver.receive()).toEqual({ message: '', descriptors: [] });
  });

  it('can be sent by the owner of the socket only', () => {
    expect(fs.statSync(file).mode & 0o777).toBe(0o600);
    expect(() => new UnixReceiver(file)).toThrow('EADDRINUSE');
    expect(() => sendUnixDatagram(file, 'x', [control.eventfd(0, 0), -1])).toThrow('EBADF');
  });
});
