/** Whether the overlay is up, asked of the daemon itself. */
import { socketsIn } from './socket-names.js';
import { askUnix } from './unix-http.js';

export interface Readiness {
  readonly ready: boolean;
  /** Lines for people: what each daemon says. */
  readonly text: string;
}

/** Of a socket that nobody listens at any more: a killed daemon's, which says nothing about those that live. */
const NOBODY = new Set(['ENOENT', 'ECONNREFUSED']);

/**
 * Asks the daemon behind a status socket, or all that have theirs in a run directory; then each of them has to be ready, for
 * nobody can say which was meant. Not having the first socket does not make a daemon less one.
 *
 * @param place a socket (`….sock`) or a run directory
 */
export async function askReady(place: string): Promise<Readiness> {
  const sockets = place.endsWith('.sock') ? [place] : socketsIn(place);
  const answers = await Promise.all(sockets.map(ask));
  const somebody = answers.filter(({ nobody }) => !nobody);
  const meant = somebody.length > 0 ? somebody : answers.slice(0, 1);
  return { ready: meant.every(({ ready }) => ready), text: meant.map(({ text }) => text).join('') };
}

async function ask(socket: string): Promise<Readiness & { readonly nobody: boolean }> {
  try {
    const { status, body } = await askUnix(socket, 'GET', '/ready');
    return { ready: status === 200, text: body, nobody: false };
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    return { ready: false, text: `${message}\n`, nobody: NOBODY.has(code) };
  }
}
