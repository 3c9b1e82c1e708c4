import fs from 'node:fs/promises';
import type http from 'node:http';
import path from 'node:path';
import { makeDirectory } from '../base/atomic-file.js';
import { messageOf, TweedError } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { isUnforeseen, unforeseen } from '../base/unforeseen.js';
import { type FileLock, LockHeldError, lockFile } from '../linux/file-lock.js';
import { closeGuestServer, guestServer } from './guests.js';
import type { Setting } from './settings.js';
import { socketNames } from './socket-names.js';
import type { StatusSource } from './status.js';

/** The status socket could not be made; the daemon goes on without. */
export class StatusSocketError extends TweedError {
  constructor(file: string, reason: string, options?: ErrorOptions) {
    super('STATUS_SOCKET', `no status socket at ${file}: ${reason}; choose another directory with -run-dir`, options);
  }
}

export interface StatusServer {
  /** Where it listens. */
  readonly file: string;
  close(): Promise<void>;
}

/**
 * Answers `tweed status` and `tweed log-level` on a unix socket, in HTTP: `GET /status` gives the status as JSON,
 * `GET /ready` 200 or 503, `GET /log-level` and `PUT /log-level` read and set the log level, `GET /config` tells the options in force. Root and the socket's group may connect.
 *
 * Daemons that share the directory have a socket each, and a lock beside it, so none takes another's for one that a killed
 * daemon left.
 *
 * @throws StatusSocketError when the directory cannot be used.
 */
export async function startStatusServer(
  runDirectory: string,
  status: StatusSource,
  log: Logger,
  settings: readonly Setting[] = [],
): Promise<StatusServer> {
  const server = guestServer((request, response) => {
    answer(request, response, status, log, settings).catch((error: unknown) => {
      if (isUnforeseen(error)) unforeseen.note('answering at the status socket', error);
      response.writeHead(500, { 'content-type': 'text/plain' }).end(`${messageOf(error)}\n`);
    });
  });
  let file = path.join(runDirectory, socketNames[0] as string);
  let lock: FileLock | undefined;
  try {
    await makeDirectory(runDirectory);
    ({ file, lock } = takeSocket(runDirectory));
    await fs.rm(file, { force: true }); // left by a daemon that was killed
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(file, resolve));
    await fs.chmod(file, 0o660);
  } catch (error) {
    server.close();
    lock?.release();
    throw new StatusSocketError(file, messageOf(error), { cause: error });
  }
  const held = lock;
  server.on('error', (error) => log.warn({ reason: messageOf(error) }, 'status socket failed'));
  server.unref();
  return {
    file,
    close: async () => {
      await closeGuestServer(server); // removes the file
      held.release();
    },
  };
}

/** The first socket that no other daemon has. */
function takeSocket(runDirectory: string): { file: string; lock: FileLock } {
  for (const name of socketNames) {
    const file = path.join(runDirectory, name);
    try {
      return { file, lock: lockFile(`${file}.lock`) };
    } catch (error) {
      if (!(error instanceof LockHeldError)) throw error;
    }
  }
  throw new Error(`${socketNames.length} daemons have theirs there`);
}

async function answer(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  status: StatusSource,
  log: Logger,
  settings: readonly Setting[],
): Promise<void> {
  const asked = `${request.method} ${request.url}`;
  if (asked === 'GET /status') {
    const text = `${JSON.stringify(status())}\n`; // before anything is sent, for it may fail
    response.writeHead(200, { 'content-type': 'application/json' }).end(text);
  } else if (asked === 'GET /ready') {
    const { ready, detail } = status();
    response
      .writeHead(ready ? 200 : 503, { 'content-type': 'text/plain' })
      .end(ready ? 'ready\n' : `not ready: ${detail}\n`);
  } else if (asked === 'GET /config') {
    response.writeHead(200, { 'content-type': 'application/json' }).end(`${JSON.stringify(settings)}\n`);
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
    if (body.length > 1000) throw new TweedError('REQUEST_TOO_LONG', 'the request is too long; send a log level alone');
  }
  return body;
}
