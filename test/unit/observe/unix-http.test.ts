import fs from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { askUnix, parseAnswer } from '../../../src/observe/unix-http.js';

describe('reading an answer', () => {
  it.each([
    [
      'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello\r\n\r\nthere',
      { status: 200, body: 'hello\r\n\r\nthere' },
    ],
    ['HTTP/1.0 503 \r\n\r\n', { status: 503, body: '' }],
    ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nü', { status: 200, body: 'ü' }],
  ])('%j', (text, answer) => expect(parseAnswer(text)).toEqual(answer));

  it.each([
    '',
    'HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nü',
    'HTTP/1.1 200 OK\r\n',
    'SSH-2.0-OpenSSH\r\n\r\n',
    'HTTP/1.1 20 OK\r\n\r\n',
  ])('%j is none', (text) => expect(parseAnswer(text)).toBeNull());
});

describe('asking', () => {
  let directory: string;
  let server: net.Server | null = null;
  const open: net.Socket[] = [];

  beforeEach(async () => {
    directory = await fs.mkdtemp(path.join(os.tmpdir(), 'tweed-http-'));
  });
  afterEach(async () => {
    for (const socket of open.splice(0)) socket.destroy();
    await new Promise((resolve) => (server === null ? resolve(null) : server.close(resolve)));
    server = null;
    await fs.rm(directory, { recursive: true });
  });

  function serve(onData: (socket: net.Socket, text: string) => void): Promise<string> {
    const file = path.join(directory, 'socket');
    server = net.createServer((socket) => {
      open.push(socket);
      socket.on('data', (chunk) => onData(socket, chunk.toString()));
    });
    return new Promise((resolve) => server?.listen(file, () => resolve(file)));
  }

  it('sends the length of the body in bytes and takes an answer in pieces', async () => {
    let asked = '';
    const file = await serve((socket, text) => {
      asked += text;
      socket.write('HTTP/1.1 200 OK\r\n');
      setImmediate(() => socket.end('\r\nü'));
    });
    expect(await askUnix(file, 'PUT', '/level', { body: 'ü' })).toEqual({ status: 200, body: 'ü' });
    expect(asked).toBe('PUT /level HTTP/1.0\r\nHost: tweed\r\nContent-Length: 2\r\n\r\nü');
  });

  it('does not wait for ever', async () => {
    const file = await serve(() => {});
    await expect(askUnix(file, 'GET', '/', { timeoutMs: 20 })).rejects.toThrow('no answer within 0.02 s');
  });

  it('refuses what is not HTTP, and says which call failed where nobody listens', async () => {
    const file = await serve((socket) => socket.end('?'));
    await expect(askUnix(file, 'GET', '/')).rejects.toThrow('not in HTTP');
    await expect(askUnix(`${file}-none`, 'GET', '/')).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
