import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { spawnInside } from '../../src/lab/namespace.js';
import { BenchError } from '../errors.js';

const READY_MS = 15_000;
const PATIENCE_MS = 3_000;
const KEPT_LINES = 20;

/** A program of a contender that runs in a namespace until it is stopped. */
export class Helper {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #lines: string[] = [];
  #listener: ((line: string) => void) | null = null;

  private constructor(
    readonly argv: readonly string[],
    child: ChildProcess,
  ) {
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      child.once('close', () => resolve());
      child.once('error', (error) => {
        this.#lines.push(error.message);
        resolve();
      });
    });
    for (const stream of [child.stdout, child.stderr]) {
      if (stream !== null) createInterface({ input: stream }).on('line', (line) => this.#line(line));
    }
  }

  /**
   * Starts a program and waits until it says a line that matches `ready`; null does not wait.
   *
   * @throws BenchError when it ends instead
   */
  static async start(namespace: string, argv: readonly string[], ready: RegExp | null): Promise<Helper> {
    const child = spawnInside(namespace, argv, {
      stdio: ['pipe', 'pipe', 'pipe'],
      // a group of its own: Ctrl-C is ours to handle, and we stop it in good order
      detached: true,
    });
    child.stdin?.on('error', () => {}); // it ended; whoever waits for its answer is told
    const helper = new Helper(argv, child);
    try {
      if (ready !== null) await helper.waitFor(ready);
    } catch (error) {
      await helper.stop();
      throw error;
    }
    return helper;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Sends a line to the program. */
  write(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  /** The next line that matches. Lines that came before the call do not count. */
  async waitFor(pattern: RegExp, timeoutMs = READY_MS): Promise<string> {
    let timer: NodeJS.Timeout | undefined;
    const found = new Promise<string>((resolve) => {
      this.#listener = (line) => {
        if (pattern.test(line)) resolve(line);
      };
    });
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(() => resolve(null), timeoutMs);
    });
    const line = await Promise.race([found, late, this.#ended.then(() => null)]);
    clearTimeout(timer);
    this.#listener = null;
    if (line === null) {
      const said = this.#lines.join('\n') || '(nothing)';
      throw new BenchError(
        'HELPER',
        `${this.argv.slice(0, 3).join(' ')} … ended or stayed silent where ${pattern} was expected; it said:\n${said}`,
      );
    }
    return line;
  }

  #line(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > KEPT_LINES) this.#lines.shift();
    this.#listener?.(line);
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), PATIENCE_MS);
    await this.#ended;
    clearTimeout(timer);
  }
}
