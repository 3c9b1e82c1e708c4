import path from 'node:path';
import { TweedError } from '../base/errors.js';
import { SOCKET_NAME } from '../observe/socket-names.js';
import type { DaemonStatus } from '../observe/status.js';
import { askUnix, type UnixAnswer } from '../observe/unix-http.js';

/** No daemon answered, or not with what was asked for. */
export class StatusClientError extends TweedError {
  constructor(message: string, options?: ErrorOptions) {
    super('NO_DAEMON', message, options);
  }
}

/** Asks the daemon whose socket is in the directory. @throws StatusClientError */
export async function fetchStatus(runDirectory: string): Promise<DaemonStatus> {
  return JSON.parse(await ask(runDirectory, 'GET', '/status')) as DaemonStatus;
}

/** The level in force after the call; without a level it is only asked for. @throws StatusClientError */
export async function daemonLogLevel(runDirectory: string, level?: string): Promise<string> {
  const answer = await ask(runDirectory, level === undefined ? 'GET' : 'PUT', '/log-level', level);
  return answer.trim();
}

async function ask(runDirectory: string, method: string, url: string, body = ''): Promise<string> {
  const socketPath = path.join(runDirectory, SOCKET_NAME);
  let answer: UnixAnswer;
  try {
    answer = await askUnix(socketPath, method, url, { body });
  } catch (error) {
    throw new StatusClientError(explain(error as NodeJS.ErrnoException, socketPath), { cause: error });
  }
  if (answer.status === 200) return answer.body;
  throw new StatusClientError(`the daemon at ${socketPath} refused: ${answer.body.trim()}`);
}

function explain(error: NodeJS.ErrnoException, socketPath: string): string {
  switch (error.code) {
    case 'ENOENT':
    case 'ECONNREFUSED':
      return `no daemon answers at ${socketPath}; is "tweed run" running, and with the same --run-dir?`;
    case 'EACCES':
      return `no permission for ${socketPath}; try again as root`;
    default:
      return `no answer from the daemon at ${socketPath}: ${error.message}; look at its log`;
  }
}
