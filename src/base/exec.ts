import { type ChildProcess, spawn } from 'node:child_process';
import { TweedError } from './errors.js';

export interface ExecResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program could not be started, or ended with a status that its caller does not expect. */
export class ExecError extends TweedError {
  constructor(
    readonly argv: readonly string[],
    readonly result: ExecResult | null,
    detail: string,
  ) {
    super('EXEC_FAILED', `${argv.join(' ')}: ${detail}`);
  }
}

export interface ExecOptions {
  /** Text for its standard input; without it, standard input is empty. */
  readonly input?: string;
  /** Return instead of throwing when the status is not 0. */
  readonly tolerate?: boolean;
  /** Killed after this many milliseconds. */
  readonly timeoutMs?: number;
  /** Killed when it has printed more than so many bytes. */
  readonly outputLimit?: number;
  /** Killed when this is aborted. */
  readonly signal?: AbortSignal;
}

/** A full routing table of the internet, as JSON, is larger than what anybody should keep in memory. */
const OUTPUT_LIMIT = 64 * 2 ** 20;

/**
 * Variables that are for this process and no other: options of a daemon, passwords among them, and what the service
 * manager and Node take from there. No program that we run gets them. (TWEED_BUILD_NETWORK is docker-compose.yml's, and
 * TWEED_PATIENCE that of tests.)
 */
const ownVariable =
  /^(ETCD|ETCDCTL|FLANNELD)_|^TWEED_(?!(?:PATIENCE|BUILD_NETWORK)$)|^(NOTIFY_SOCKET|WATCHDOG_USEC|WATCHDOG_PID|NODE_OPTIONS)$/;

/** The environment for other programs. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !ownVariable.test(name)));
}

/**
 * Runs a program with an argument vector (never through a shell) and waits for its end.
 *
 * Where the host is short of descriptors, processes or memory it is not started: an error like any other, and the caller
 * tries again as it does after one.
 *
 * @throws ExecError when it cannot be started, is killed, or ends non-zero without `tolerate`.
 */
export function exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  const { signal: abort } = options;
  return new Promise((resolve, reject) => {
    if (abort?.aborted) {
      reject(new ExecError(argv, null, 'not started, for its caller has ended'));
      return;
    }
    const notStarted = (error: NodeJS.ErrnoException) => reject(new ExecError(argv, null, whyNotStarted(argv, error)));
    let child: ChildProcess;
    try {
      child = start(argv, options);
    } catch (error) {
      notStarted(error as NodeJS.ErrnoException);
      return;
    }
    child.on('error', notStarted);
    // without descriptors for the pipes there are no streams, and without a process no end: the error says it all
    const { stdin, stdout, stderr } = child;
    if (stdin === null || stdout === null || stderr === null || stdin === undefined) return;
    const limit = options.outputLimit ?? OUTPUT_LIMIT;
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 30_000);
    child.once('error', () => clearTimeout(timer));
    let printed = 0;
    const gather = (chunks: Buffer[]) => (chunk: Buffer) => {
      printed += chunk.length;
      if (printed <= limit) chunks.push(chunk);
      else child.kill('SIGKILL');
    };
    const [out, err]: [Buffer[], Buffer[]] = [[], []];
    stdout.on('data', gather(out));
    stderr.on('data', gather(err));
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      const result = {
        status: status ?? 128,
        stdout: Buffer.concat(out).toString(),
        stderr: Buffer.concat(err).toString(),
      };
      if (printed > limit) reject(new ExecError(argv, null, `printed more than ${limit} bytes, and was ended`));
      else if (signal !== null) reject(new ExecError(argv, result, `ended by ${signal}`));
      else if (status !== 0 && !options.tolerate) {
        reject(new ExecError(argv, result, result.stderr.trim() || `exit status ${status}`));
      } else resolve(result);
    });
    stdin.on('error', () => {}); // the program may end without reading its input; its status tells the story
    stdin.end(options.input ?? '');
  });
}

function start([program, ...args]: readonly string[], { signal }: ExecOptions): ChildProcess {
  return spawn(program as string, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: cleanEnvironment(),
    killSignal: 'SIGKILL',
    ...(signal === undefined ? {} : { signal }),
  });
}

function whyNotStarted([program]: readonly string[], { code, message }: NodeJS.ErrnoException): string {
  switch (code) {
    case 'ENOENT':
      return `${program} is not installed; install it and try again`;
    case 'EMFILE':
    case 'ENFILE':
      return `not started (${code}), no file descriptor is left; raise the limit of open files`;
    case 'EAGAIN':
    case 'ENOMEM':
      return `not started (${code}), no process can be made; raise the limit of processes, or free memory`;
    default:
      return message;
  }
}
