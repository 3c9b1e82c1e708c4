import { spawn } from 'node:child_process';
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
  /** Killed when this is aborted. */
  readonly signal?: AbortSignal;
}

/**
 * Runs a program with an argument vector (never through a shell) and waits for its end.
 *
 * @throws ExecError when it cannot be started, is killed, or ends non-zero without `tolerate`.
 */
export function exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
  const [program, ...args] = argv;
  const { signal: abort } = options;
  return new Promise((resolve, reject) => {
    if (abort?.aborted) {
      reject(new ExecError(argv, null, 'not started, for its caller has ended'));
      return;
    }
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: options.timeoutMs ?? 30_000,
      killSignal: 'SIGKILL',
      ...(abort === undefined ? {} : { signal: abort }),
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.on('error', (error: NodeJS.ErrnoException) => {
      const hint = error.code === 'ENOENT' ? `${program} is not installed; install it and try again` : error.message;
      reject(new ExecError(argv, null, hint));
    });
    child.on('close', (status, signal) => {
      const result = {
        status: status ?? 128,
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
      };
      if (signal !== null) reject(new ExecError(argv, result, `ended by ${signal}`));
      else if (status !== 0 && !options.tolerate) {
        reject(new ExecError(argv, result, result.stderr.trim() || `exit status ${status}`));
      } else resolve(result);
    });
    child.stdin.on('error', () => {}); // the program may end without reading its input; its status tells the story
    child.stdin.end(options.input ?? '');
  });
}
