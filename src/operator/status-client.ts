import { TweedError } from '../base/errors.js';
import { JsonError, PROGRAM_LIMITS, parseJson } from '../base/json.js';
import { membersOf } from '../base/members.js';
import { shown } from '../base/printable.js';
import { networkNamespace } from '../linux/network-namespace.js';
import type { Setting } from '../observe/settings.js';
import { socketsIn } from '../observe/socket-names.js';
import type { DaemonStatus } from '../observe/status.js';
import { askUnix, type UnixAnswer } from '../observe/unix-http.js';

/** No daemon answered, or not with what was asked for. */
export class StatusClientError extends TweedError {
  constructor(message: string, options?: ErrorOptions) {
    super('NO_DAEMON', message, options);
  }
}

/** There is a daemon, which does not answer: it hangs, is stopped, or has no time. What it knows must not be guessed. */
export class SilentDaemonError extends StatusClientError {}

/** Which of several daemons is meant; an empty text is no choice. */
export interface DaemonChoice {
  /** The overlay's device, such as `flannel0`; with `host-gw` the underlay's interface. */
  readonly device?: string;
  /** The overlay's network, such as `10.5.0.0/16`. */
  readonly network?: string;
  /** `own`: only daemons of this process's network namespace; any other is an error, or is not seen. */
  readonly namespace?: 'own' | 'any';
}

interface Daemon {
  readonly socketPath: string;
  readonly status: DaemonStatus;
}

/** Asks the daemon whose socket is in the directory; where there are several, the chosen one. @throws StatusClientError */
export async function fetchStatus(runDirectory: string, choice: DaemonChoice = {}): Promise<DaemonStatus> {
  return (await findDaemon(runDirectory, choice)).status;
}

/** Asks all daemons with sockets in the directory. Empty when none answers. */
export async function fetchStatuses(
  runDirectory: string,
  choice: Pick<DaemonChoice, 'namespace'> = {},
): Promise<readonly DaemonStatus[]> {
  return (await fetchAll(runDirectory, choice)).statuses;
}

/** The same, and what to say of a daemon that does not answer; empty where there is none. */
export async function fetchAll(
  runDirectory: string,
  { namespace = 'any' }: Pick<DaemonChoice, 'namespace'> = {},
): Promise<{ readonly statuses: readonly DaemonStatus[]; readonly silent: string }> {
  const { found, failures } = await askAll(runDirectory);
  const statuses = found.map(({ status }) => status).filter((status) => namespace === 'any' || !isElsewhere(status));
  return { statuses, silent: failures.find((error) => error instanceof SilentDaemonError)?.message ?? '' };
}

/** Does it run in another network namespace than this process? A daemon of an earlier version does not tell where it is. */
export function isElsewhere({ networkNamespace: told = 0 }: DaemonStatus): boolean {
  return told !== 0 && told !== networkNamespace();
}

/** What the daemon was started with. @throws StatusClientError */
export async function daemonSettings(runDirectory: string, choice: DaemonChoice = {}): Promise<readonly Setting[]> {
  const { socketPath } = await findDaemon(runDirectory, choice);
  const answer = parseJson(await ask(socketPath, 'GET', '/config'), PROGRAM_LIMITS);
  if (Array.isArray(answer) && answer.every((one) => typeof membersOf(one)?.get('name') === 'string')) {
    return answer as Setting[];
  }
  throw new StatusClientError(`the daemon at ${socketPath} does not tell its options; is it of another version?`);
}

/** The level in force after the call; without a level it is only asked for. @throws StatusClientError */
export async function daemonLogLevel(runDirectory: string, level?: string, choice: DaemonChoice = {}): Promise<string> {
  const { socketPath } = await findDaemon(runDirectory, choice);
  const answer = await ask(socketPath, level === undefined ? 'GET' : 'PUT', '/log-level', level);
  return answer.trim();
}

async function findDaemon(
  runDirectory: string,
  { device = '', network = '', namespace = 'any' }: DaemonChoice,
): Promise<Daemon> {
  const { found: all, failures } = await askAll(runDirectory);
  if (all.length === 0) throw failures.find((error) => error instanceof SilentDaemonError) ?? failures[0];
  const found = namespace === 'any' ? all : all.filter(({ status }) => !isElsewhere(status));
  if (found.length === 0) {
    const those = all.map(({ status }) => `process ${status.process}`).join(', ');
    throw new StatusClientError(
      `no daemon runs in this network namespace; those that answer in ${runDirectory} (${those}) are of another: run this there, such as by "nsenter --net --target ${all[0]?.status.process}"`,
    );
  }
  const meant = found.filter(
    ({ status }) =>
      (device === '' || status.backend?.device === device) && (network === '' || status.network === network),
  );
  const [one] = meant;
  if (one !== undefined && meant.length === 1) return one;
  const those = (meant.length > 0 ? meant : found).map(({ status }) => nameOf(status)).join(', ');
  if (meant.length > 1) {
    throw new StatusClientError(
      `${meant.length} daemons answer in ${runDirectory} (${those}); choose one with --network or --device`,
    );
  }
  const asked = [...(device === '' ? [] : [device]), ...(network === '' ? [] : [network])].join(' of ');
  throw new StatusClientError(`no daemon in ${runDirectory} serves ${asked}; there is ${those}`);
}

function nameOf({ backend, network, process, detail }: DaemonStatus): string {
  if (network === null) return `process ${process}: ${detail}`;
  return backend === null ? network : `${backend.device} of ${network}`;
}

async function askAll(runDirectory: string): Promise<{ found: readonly Daemon[]; failures: readonly Error[] }> {
  const answers = await Promise.allSettled(
    socketsIn(runDirectory).map(async (socketPath) => ({
      socketPath,
      status: readStatus(await ask(socketPath, 'GET', '/status'), socketPath),
    })),
  );
  const found = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
  const failures = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as Error] : []));
  return { found, failures };
}

/** @throws StatusClientError */
function readStatus(answer: string, socketPath: string): DaemonStatus {
  const problem = (reason: string) =>
    new StatusClientError(`what answers at ${socketPath} is no daemon of tweed: ${reason}; is it the right --run-dir?`);
  try {
    const status = parseJson(answer, PROGRAM_LIMITS);
    const schema = membersOf(status)?.get('schema');
    if (schema !== 1) throw problem(`its status has the schema ${shown(schema)}, not 1`);
    return status as DaemonStatus;
  } catch (error) {
    throw error instanceof JsonError ? problem(error.problem) : error;
  }
}

async function ask(socketPath: string, method: string, url: string, body = ''): Promise<string> {
  let answer: UnixAnswer;
  try {
    answer = await askUnix(socketPath, method, url, { body });
  } catch (error) {
    throw explained(error as NodeJS.ErrnoException, socketPath);
  }
  if (answer.status === 200) return answer.body;
  throw new StatusClientError(`the daemon at ${socketPath} refused: ${answer.body.trim()}`);
}

function explained(error: NodeJS.ErrnoException, socketPath: string): StatusClientError {
  switch (error.code) {
    case 'ENOENT':
    case 'ECONNREFUSED':
      return new StatusClientError(
        `no daemon answers at ${socketPath}; is "tweed run" running, and with the same --run-dir?`,
        { cause: error },
      );
    case 'EACCES':
      return new StatusClientError(`no permission for ${socketPath}; try again as root`, { cause: error });
    default:
      return new SilentDaemonError(`no answer from the daemon at ${socketPath}: ${error.message}; look at its log`, {
        cause: error,
      });
  }
}
