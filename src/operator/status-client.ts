import http from 'node:http';
import path from 'node:path';
import { TweedError } from '../base/errors.js';
import { JsonError, PROGRAM_LIMITS, parseJson } from '../base/json.js';
import { membersOf } from '../base/members.js';
import { shown } from '../base/printable.js';
import type { DaemonStatus } from '../observe/status.js';
import { SOCKET_NAME } from '../observe/status-server.js';

/** No daemon answered, or not with what was asked for. */
export class StatusClientError extends TweedError {
  constructor(message: string, options?: ErrorOptions) {
    super('NO_DAEMON', message, options);
  }
}

/** Asks the daemon whose socket is in the directory. @throws StatusClientError */
export async function fetchStatus(runDirectory: string): Promise<DaemonStatus> {
  const answer = await ask(runDirectory, 'GET', '/status');
  const problem = (reason: string) =>
    new StatusClientError(
      `what answers in ${runDirectory} is no daemon of tweed: ${reason}; is it the right --run-dir?`,
    );
  try {
    const status = parseJson(answer, PROGRAM_LIMITS);
    const schema = membersOf(status)?.get('schema');
    if (schema !== 1) throw problem(`its status has the schema ${shown(schema)}, not 1`);
    return status as DaemonStatus;
  } catch (error) {
    throw error instanceof JsonError ? problem(error.problem) : error;
  }
}

/** The level in force after the call; without a level it is only asked for. @throws StatusClientError */
export async function daemonLogLevel(runDirectory: string, level?: string): Promise<string> {
  const answer = await ask(runDirectory, level === undefined ? 'GET' : 'PUT', '/log-level', level);
  return answer.trim();
}

function ask(runDirectory: string, method: string, url: string, body = ''): Promise<string> {
  const socketPath = path.join(runDirectory, SOCKET_NAME);
  return new Promise((resolve, reject) => {
    const fail = (error: NodeJS.ErrnoException) => {
      reject(new StatusClientError(explain(error, socketPath), { cause: error }));
    };
    const request = http.request({ socketPath, method, path: url, timeout: 5000, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > PROGRAM_LIMITS.length) request.destroy(new Error('the answer does not end'));
      });
      response.on('end', () => {
        if (response.statusCode === 200) resolve(text);
        else reject(new StatusClientError(`the daemon at ${socketPath} refused: ${text.trim()}`));
      });
      response.on('error', fail); // cut off in the middle
    });
    request.on('timeout', () => request.destroy(new Error('no answer within 5 s')));
    request.on('error', fail);
    request.end(body);
  });
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
