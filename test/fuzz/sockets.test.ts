import fs from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { TweedError } from '../../src/base/errors.js';
import { unforeseen } from '../../src/base/unforeseen.js';
import { type HealthServer, startHealthServer } from '../../src/observe/health.js';
import { SOCKET_NAME } from '../../src/observe/socket-names.js';
import type { DaemonStatus } from '../../src/observe/status.js';
import { type StatusServer, startStatusServer } from '../../src/observe/status-server.js';
import { daemonLogLevel, fetchStatus } from '../../src/operator/status-client.js';
import { fuzz, near, oddObject } from './support.js';

/** Says nothing, at whatever level a request sets it to. */
const quiet = pino({}, { write: () => {} });

const request = near(
  'GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n',
  'PUT /log-level HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\ndebug',
  'PUT /log-level HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\ndebug\r\n0\r\n\r\n',
  'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /metrics HTTP/1.1\r\nhost: x\r\n\r\n',
  'GET /readyz?%00%ff HTTP/1.0\r\n\r\n',
  'CONNECT / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nexpect: 100-continue\r\n\r\n',
);

/** Sends these bytes, and waits for the end of the connection, which our side closes after a moment. */
function send(where: net.NetConnectOpts, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const socket = net.connect(where);
    socket.on('error', () => {}); // being cut off is an answer
    socket.on('close', () => resolve());
    socket.resume();
    socket.end(bytes);
  });
}

describe('a fuzz of sockets', () => {
  let directory: string;
  let statusServer: StatusServer;
  let health: HealthServer;
  const status = { schema: 1, ready: true, registry: { kind: 'etcd' } } as unknown as DaemonStatus;

  beforeAll(async () => {
    directory = await fs.mkdtemp(path.join(os.tmpdir(), 'tweed-fuzz-'));
    statusServer = await startStatusServer(directory, () => status, quiet);
    health = startHealthServer('127.0.0.1', 0, () => status, quiet);
    await vi.waitFor(() => expect(health.port).toBeGreaterThan(0));
  });
  afterAll(async () => {
    await statusServer.close();
    await health.close();
    await fs.rm(directory, { recursive: true });
  });

  /** Answers in a daemon's place; whatever it is, the client has an answer or an error of ours. */
  async function impersonate(text: string): Promise<void> {
    const place = path.join(directory, 'impostor');
    await fs.mkdir(place, { recursive: true });
    const server = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end(text));
    });
    await new Promise<void>((resolve) => server.listen(path.join(place, SOCKET_NAME), resolve));
    for (const ask of [() => fetchStatus(place), () => daemonLogLevel(place)]) {
      await ask().catch((error: unknown) => expect(error).toBeInstanceOf(TweedError));
    }
    await new Promise((resolve) => server.close(resolve));
  }

  fuzz('the status socket answers the next one', request, 300, async (text) => {
    await send({ path: path.join(directory, SOCKET_NAME) }, Buffer.from(text));
    expect(await fetchStatus(directory)).toEqual(status);
  });

  const healthy = /^GET \/metrics/m; // rendering the status of this test is no part of it
  fuzz(
    'the health port answers the next one',
    request.filter((text) => !healthy.test(text)),
    300,
    async (text) => {
      await send({ port: health.port, host: '127.0.0.1' }, Buffer.from(text, 'latin1'));
      expect(await (await fetch(`http://127.0.0.1:${health.port}/healthz`)).text()).toBe('flanneld is running');
    },
  );

  it('a status that cannot be made costs its answer, at the port and at the socket', async () => {
    const before = unforeseen.count;
    const broken = (): never => {
      throw new TypeError('undefined is not a status');
    };
    const port = startHealthServer('127.0.0.1', 0, broken, quiet);
    await vi.waitFor(() => expect(port.port).toBeGreaterThan(0));
    const url = `http://127.0.0.1:${port.port}`;
    await expect(fetch(`${url}/readyz`)).rejects.toThrow();
    expect((await fetch(`${url}/metrics`)).status).toBe(500);
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    await port.close();
    const socket = await startStatusServer(path.join(directory, 'broken'), broken, quiet);
    await expect(fetchStatus(path.join(directory, 'broken'))).rejects.toThrow('refused');
    await socket.close();
    expect(unforeseen.count).toBe(before + 3);
  });

  const answer = fc.oneof(
    near('HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"schema":1}\n', 'HTTP/1.1 503 no\r\n\r\nbusy'),
    oddObject({ schema: '1', version: '"1"' }).map((body) => `HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n${body}`),
  );
  // The first find of the fuzz below: an answer that is cut off gave an error of Node's.
  it('an answer that is cut off is refused', async () => {
    await impersonate('HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"schema":1}');
  });

  fuzz('whatever answers in a daemon’s place is taken or refused', answer, 300, impersonate);
});
