import fs from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { startHealthServer } from '../../../src/observe/health.js';
import { SOCKET_NAME } from '../../../src/observe/socket-names.js';
import type { DaemonStatus } from '../../../src/observe/status.js';
import { startStatusServer } from '../../../src/observe/status-server.js';
import { askUnix } from '../../../src/observe/unix-http.js';
import { daemonLogLevel, fetchStatus } from '../../../src/operator/status-client.js';

const status: DaemonStatus = {
  schema: 1,
  version: '1',
  process: 1,
  startedAt: new Date(0).toISOString(),
  phase: 'running',
  detail: '',
  ready: false,
  logLevel: 'info',
  network: null,
  lease: null,
  underlay: null,
  registry: { kind: 'etcd', endpoints: [], connected: true, error: '' },
  backend: null,
  repairs: 0,
};

let directory: string;
const closing: (() => Promise<void>)[] = [];

beforeEach(async () => {
  directory = await fs.mkdtemp(path.join(os.tmpdir(), 'tweed-status-'));
});
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  await fs.rm(directory, { recursive: true });
});

async function serve(log = silentLogger(), where = directory) {
  const server = await startStatusServer(where, () => status, log);
  closing.push(() => server.close());
  return server;
}

describe('the status socket', () => {
  it('gives the status, in a directory that it makes, to root and its group only', async () => {
    const where = path.join(directory, 'a/b');
    await serve(silentLogger(), where);
    expect(await fetchStatus(where)).toEqual(status);
    expect((await fs.stat(path.join(where, SOCKET_NAME))).mode & 0o777).toBe(0o660);
  });

  it('answers health checks', async () => {
    await serve();
    expect(await askUnix(path.join(directory, SOCKET_NAME), 'GET', '/ready')).toEqual({
      status: 503,
      body: 'not ready: \n',
    });
  });

  it('changes the log level at run time and refuses one that does not exist', async () => {
    const log = silentLogger();
    await serve(log);
    expect(await daemonLogLevel(directory, 'debug')).toBe('debug');
    expect(log.level).toBe('debug');
    expect(await daemonLogLevel(directory)).toBe('debug');
    await expect(daemonLogLevel(directory, 'loud')).rejects.toThrow('unknown log level; choose one of trace, debug');
    expect(log.level).toBe('debug');
  });

  it('takes the place of a socket that a killed daemon left', async () => {
    const file = path.join(directory, SOCKET_NAME);
    const leftover = net.createServer().listen(file);
    await vi.waitFor(() => expect(leftover.listening).toBe(true));
    await fs.rename(file, `${file}.kept`); // closing removes the file by name
    await new Promise((resolve) => leftover.close(resolve));
    await fs.rename(`${file}.kept`, file);
    await serve();
    expect(await fetchStatus(directory)).toEqual(status);
  });

  it('leaves the socket of a daemon that answers alone', async () => {
    await serve();
    await expect(startStatusServer(directory, () => status, silentLogger())).rejects.toThrow(
      'another daemon answers there',
    );
    expect(await fetchStatus(directory)).toEqual(status);
  });

  it('is gone after closing, and asking says what to do', async () => {
    await (await serve()).close();
    await expect(fetchStatus(directory)).rejects.toThrow(
      `no daemon answers at ${directory}/tweed.sock; is "tweed run" running`,
    );
  });
});

describe('the health server', () => {
  const start = (changing: { ready: boolean } = { ready: false }) => {
    const server = startHealthServer('127.0.0.1', 0, () => ({ ...status, ready: changing.ready }), silentLogger(), 50);
    closing.push(() => server.close());
    return server;
  };
  const get = async (port: number, url: string, method = 'GET') => {
    const response = await fetch(`http://127.0.0.1:${port}${url}`, { method });
    return [response.status, await response.text()];
  };

  it("answers as flannel's does", async () => {
    const changing = { ready: false };
    const server = start(changing);
    await vi.waitFor(() => expect(server.port).toBeGreaterThan(0));
    expect(await get(server.port, '/healthz')).toEqual([200, 'flanneld is running']);
    expect(await get(server.port, '/readyz')).toEqual([503, 'flanneld is not ready yet']);
    changing.ready = true;
    expect(await get(server.port, '/readyz')).toEqual([200, 'flanneld is ready']);
    expect((await get(server.port, '/nothing'))[0]).toBe(404);
    expect((await get(server.port, '/healthz', 'POST'))[0]).toBe(405);
  });

  it('gives the metrics of the overlay and of the process', async () => {
    const server = start();
    await vi.waitFor(() => expect(server.port).toBeGreaterThan(0));
    const [code, text] = await get(server.port, '/metrics');
    expect(code).toBe(200);
    expect(text).toMatch(/^tweed_ready 0$/m);
    expect(text).toMatch(/^process_cpu_seconds_total /m);
  });

  it('comes up later when its port is taken at first', async () => {
    const other = net.createServer().listen(0, '127.0.0.1');
    await vi.waitFor(() => expect(other.listening).toBe(true));
    const { port } = other.address() as net.AddressInfo;
    const server = startHealthServer('127.0.0.1', port, () => status, silentLogger(), 20);
    closing.push(() => server.close());
    await new Promise((resolve) => other.close(resolve));
    await vi.waitFor(() => expect(server.port).toBe(port), { timeout: 5000 });
    expect((await get(port, '/healthz'))[0]).toBe(200);
  });
});
