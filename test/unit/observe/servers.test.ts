import fs from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { GUEST_LIMIT } from '../../../src/observe/guests.js';
import { startHealthServer } from '../../../src/observe/health.js';
import { SOCKET_NAME } from '../../../src/observe/socket-names.js';
import type { DaemonStatus } from '../../../src/observe/status.js';
import { startStatusServer } from '../../../src/observe/status-server.js';
import { askUnix } from '../../../src/observe/unix-http.js';
import { daemonLogLevel, fetchStatus, fetchStatuses } from '../../../src/operator/status-client.js';

const status: DaemonStatus = {
  schema: 1,
  version: '1',
  process: 1,
  networkNamespace: 0,
  startedAt: new Date(0).toISOString(),
  phase: 'running',
  detail: '',
  ready: false,
  logLevel: 'info',
  network: null,
  networkV6: null,
  port: null,
  portV6: null,
  lease: null,
  underlay: null,
  registry: { kind: 'etcd', endpoints: [], connected: true, error: '' },
  backend: null,
  warnings: [],
  repairs: 0,
  unforeseenErrors: 0,
  log: { lost: 0, waiting: 0, error: '' },
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

async function serve(log = silentLogger(), where = directory, answer = status) {
  const server = await startStatusServer(where, () => answer, log);
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

  describe('of several daemons in one directory', () => {
    const backend = { type: 'udp', mtu: 1472, peers: [], refused: [], drops: {}, totals: {}, features: [] };
    const serving = (device: string, network: string): DaemonStatus =>
      ({ ...status, network, backend: { ...backend, device } }) as DaemonStatus;
    const vxlan = serving('flannel.1', '10.11.0.0/16');
    const hostGw = serving('eth0', '10.12.0.0/16');
    const another = serving('eth0', '10.13.0.0/16');

    it('is one for each, and the chosen one answers', async () => {
      const logs = [silentLogger(), silentLogger(), silentLogger()];
      // all at once, as at the host's start
      await Promise.all([vxlan, hostGw, another].map((answer, index) => serve(logs[index], directory, answer)));
      expect(await fetchStatuses(directory)).toHaveLength(3);
      expect(await fetchStatus(directory, { device: 'flannel.1' })).toEqual(vxlan);
      expect(await fetchStatus(directory, { network: '10.12.0.0/16' })).toEqual(hostGw);
      expect(await daemonLogLevel(directory, 'debug', { network: '10.12.0.0/16' })).toBe('debug');
      expect(logs.map(({ level }) => level)).toEqual(['silent', 'debug', 'silent']);
    });

    it('says which there are where the choice is missing, wrong or not enough', async () => {
      for (const answer of [vxlan, hostGw, another]) await serve(silentLogger(), directory, answer);
      const all = 'flannel.1 of 10.11.0.0/16, eth0 of 10.12.0.0/16, eth0 of 10.13.0.0/16';
      await expect(fetchStatus(directory)).rejects.toThrow(
        `3 daemons answer in ${directory} (${all}); choose one with --network or --device`,
      );
      await expect(fetchStatus(directory, { device: 'eth0' })).rejects.toThrow('2 daemons answer');
      await expect(fetchStatus(directory, { device: 'flannel7' })).rejects.toThrow(
        `no daemon in ${directory} serves flannel7; there is ${all}`,
      );
    });

    it('is the usual one again for whoever is left or comes next', async () => {
      const first = await serve(silentLogger(), directory, vxlan);
      const second = await serve(silentLogger(), directory, hostGw);
      expect([first, second].map(({ file }) => path.basename(file))).toEqual(['tweed.sock', 'tweed-2.sock']);
      await first.close();
      expect(await fetchStatus(directory)).toEqual(hostGw);
      expect((await serve(silentLogger(), directory, vxlan)).file).toBe(first.file);
      expect(await fetchStatuses(directory)).toHaveLength(2);
    });
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

describe('guests', () => {
  /** Connects so many times, says nothing, and keeps what the server keeps. */
  async function crowd(target: net.NetConnectOpts, size: number): Promise<Set<net.Socket>> {
    const open = new Set<net.Socket>();
    for (let i = 0; i < size; i++) {
      const socket = net.connect(target);
      socket.resume();
      socket.on('error', () => {}).on('close', () => open.delete(socket));
      await new Promise<void>((resolve) => socket.once('connect', resolve).once('error', () => resolve()));
      open.add(socket);
    }
    return open;
  }

  it('who say nothing, however many, keep nobody out of the status socket, and are few', async () => {
    const server = await serve();
    const silent = await crowd({ path: path.join(directory, SOCKET_NAME) }, 400);
    expect(await fetchStatus(directory)).toEqual(status);
    await vi.waitFor(() => expect(silent.size).toBeLessThanOrEqual(GUEST_LIMIT));
    await server.close();
    await vi.waitFor(() => expect(silent.size).toBe(0));
  });

  it('nor out of the health server; those who began a request are sent away, too', { timeout: 30_000 }, async () => {
    const server = startHealthServer('127.0.0.1', 0, () => status, silentLogger());
    closing.push(() => server.close());
    await vi.waitFor(() => expect(server.port).toBeGreaterThan(0));
    const silent = await crowd({ port: server.port, host: '127.0.0.1' }, 400);
    expect((await fetch(`http://127.0.0.1:${server.port}/healthz`)).status).toBe(200);
    await vi.waitFor(() => expect(silent.size).toBeLessThanOrEqual(GUEST_LIMIT));
    for (const socket of silent) socket.write('GET /healthz HTTP/1.1\r\nHost: ');
    await vi.waitFor(() => expect(silent.size).toBe(0), { timeout: 20_000, interval: 200 });
  });

  it('who send long headers or long bodies are refused', async () => {
    await serve();
    await expect(daemonLogLevel(directory, 'x'.repeat(5000))).rejects.toThrow('the request is too long');
    const socket = net.connect(path.join(directory, SOCKET_NAME));
    let answer = '';
    socket.on('data', (chunk) => {
      answer += chunk;
    });
    socket.on('error', () => {});
    socket.write(`GET /status HTTP/1.1\r\nHost: x\r\nX: ${'y'.repeat(20_000)}\r\n\r\n`);
    await vi.waitFor(() => expect(answer).toContain('431'));
    socket.destroy();
  });
});
