import fs from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { messageOf, TweedError } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { SOCKET_NAME } from './socket-names.js';
import type { StatusSource } from './status.js';

/** The status socket could not be made; the daemon goes on without. */
export class StatusSocketError extends TweedError {
  constructor(file: string, reason: string, options?: ErrorOptions) {
    super('STATUS_SOCKET', `no status socket at ${file}: ${reason}; choose another directory with -run-dir`, options);
  }
}

export interface StatusServer {
  close(): Promise<void>;
}

/**
 * Answers `tweed status` and `tweed log-level` on a unix socket, in HTTP: `GET /status` gives the status as JSON,
 * `GET /ready` 200 or 503, `GET /log-level` and `PUT /log-level` read and set the log level. Root and the socket's group may connect.
 *
 * @throws StatusSocketError when the directory cannot be used or another daemon answers there.
 */
export async function startStatusServer(
  runDirectory: string,
  status: StatusSource,
  log: Logger,
): Promise<StatusServer> {
  const file = path.join(runDirectory, SOCKET_NAME);
  const server = http.createServer((request, response) => {
    answer(request, response, status, log).catch((error: unknown) => {
      response.writeHead(500, { 'content-type': 'text/plain' }).end(`${messageOf(error)}\n`);
    });
  });
  try {
    await fs.mkdir(runDirectory, { recursive: true, mode: 0o755 });
    if (await answers(file)) throw new Error('another daemon answers there');
    await fs.rm(file, { force: true }); // left by a daemon that was killed
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(file, resolve));
    await fs.chmod(file, 0o660);
  } catch (error) {
    server.close();
    throw new StatusSocketError(file, messageOf(error), { cause: error });
  }
  server.on('error', (error) => log.warn({ err: error }, 'status socket failed'));
  server.unref();
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve()); // removes the file
        server.closeAllConnections();
      }),
  };
}

async function answer(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  status: StatusSource,
  log: Logger,
): Promise<void> {
  const asked = `${request.method} ${request.url}`;
  if (asked === 'GET /status') {
    response.writeHead(200, { 'content-type': 'application/json' }).end(`${JSON.stringify(status())}\n`);
  } else if (asked === 'GET /ready') {
    const { ready, detail } = status();
    response
      .writeHead(ready ? 200 : 503, { 'content-type': 'text/plain' })
      .end(ready ? 'ready\n' : `not ready: ${detail}\n`);
  } else if (asked === 'GET /log-level') {
    response.writeHead(200, { 'content-type': 'text/plain' }).end(`${log.level}\n`);
  } else if (asked === 'PUT /log-level') {
    const level = (await bodyOf(request)).trim();
    if (!Object.hasOwn(log.levels.values, level)) {
      const known = Object.keys(log.levels.values).join(', ');
      response.writeHead(400, { 'content-type': 'text/plain' }).end(`unknown log level; choose one of ${known}\n`);
      return;
    }
    log.info({ from: log.level, to: level }, 'log level changed');
    log.level = level;
    response.writeHead(200, { 'content-type': 'text/plain' }).end(`${level}\n`);
  } else response.writeHead(404, { 'content-type': 'text/plain' }).end('unknown request\n');
}

async function bodyOf(request: http.IncomingMessage): Promise<string> {
  let body = '';
  for await (const chunk of request) {
    body += chunk;
    if (body.length > 1000) throw new Error('the request is too long');
  }
  return body;
}

/** Does someone listen at the socket? A file without a listener is what a killed daemon leaves. */
function answers(file: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(file);
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
