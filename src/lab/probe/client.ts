import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { PROGRAM_LIMITS, parseJson } from '../../base/json.js';
import { packageFile } from '../../base/package.js';
import { LabError } from '../errors.js';
import type { AnswerLine, Ports, RequestLine, RequestName, Requests } from './protocol.js';

/** The built program, also when this file itself runs from its source. */
const program = fileURLToPath(packageFile('dist/lab/probe/agent.cjs'));

/** The words that run a probe. */
export function probeCommand(): string[] {
  return [process.execPath, program];
}

/** A small program that makes traffic from inside one place of the lab. It ends when its standard input does. */
export class Probe {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve(answer: unknown): void; reject(error: Error): void }>();
  readonly #ended: Promise<unknown>;
  #errors = '';
  #lastId = 0;

  /** @param child a running `probeCommand()` with all three standard streams piped. */
  constructor(
    readonly place: string,
    child: ChildProcess,
  ) {
    this.#child = child;
    child.stderr?.on('data', (chunk) => {
      this.#errors += chunk;
    });
    child.stdin?.on('error', () => {}); // told by the program's end
    child.on('error', (error) => {
      this.#errors += error.message;
    });
    this.#ended = once(child, 'close').then(
      () => this.#fail(),
      () => this.#fail(),
    );
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => this.#take(line));
  }

  ask<Name extends RequestName>(name: Name, args: Requests[Name]['arguments']): Promise<Requests[Name]['answer']> {
    const id = ++this.#lastId;
    const request: RequestLine = { id, name, arguments: args };
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (answer: unknown) => void, reject });
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) this.#fail();
      else this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
    });
  }

  ports(): Promise<Ports> {
    return this.ask('ports', {});
  }

  async close(): Promise<void> {
    this.#child.stdin?.end();
    await this.#ended;
  }

  #take(line: string): void {
    const message = parseJson(line, PROGRAM_LIMITS) as AnswerLine;
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if ('error' in message) {
      waiting?.reject(new LabError('LAB_PROBE', `${this.place}: ${message.error}; see \`tweed lab status\``));
    } else waiting?.resolve(message.answer);
  }

  #fail(): void {
    const reason = this.#errors.trim() || 'it ended';
    for (const { reject } of this.#waiting.values()) {
      reject(new LabError('LAB_PROBE', `the probe in ${this.place} is gone: ${reason}; start the command again`));
    }
    this.#waiting.clear();
  }
}
