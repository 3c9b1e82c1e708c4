import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { eventually, type TestHost } from './hosts.js';

const supervisor = fileURLToPath(new URL('../../../scripts/support/supervisor.mjs', import.meta.url));
const tweed = fileURLToPath(new URL('../../../dist/cli/tweed.cjs', import.meta.url));

export interface ServiceOptions {
  /** How many descriptors it keeps. */
  readonly room?: number;
  /** Words for Node before the program. */
  readonly node?: readonly string[];
}

/** A daemon under a service manager that keeps descriptors. */
export class Service {
  readonly #process: ChildProcess;
  readonly #exited: Promise<unknown>;
  #output = '';

  constructor(host: TestHost, { room = 16, node = [] }: ServiceOptions, ...args: string[]) {
    const own = ['run', '-run-dir', host.directory, '-subnet-file', host.subnetFile, '-iface=eth0', ...args];
    const words = [process.execPath, supervisor, path.join(host.directory, 'notify'), String(room)];
    const argv = ['netns', 'exec', host.namespace, ...words, process.execPath, ...node, tweed, ...own];
    this.#process = spawn('ip', argv, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#exited = new Promise((resolve) => this.#process.once('exit', resolve));
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.#output += chunk;
      });
    }
  }

  /** What it and its daemons have said. */
  get output(): string {
    return this.#output;
  }

  restart(signal: string): Promise<void> {
    return this.#untilReady(`restart ${signal}`);
  }

  /** Ends the process. What is kept is kept until `resume`. */
  async pause(signal: string): Promise<void> {
    const before = this.#count(/^ended /);
    this.#tell(`pause ${signal}`);
    await eventually(() => expect(this.#count(/^ended /)).toBe(before + 1));
  }

  /** @param changed arguments to be others from now on */
  resume(...changed: string[]): Promise<void> {
    return this.#untilReady(['resume', ...changed].join(' '));
  }

  /** Ends the process as `systemctl stop` does: what was kept goes. */
  async stop(): Promise<void> {
    this.#tell('stop');
    await this.#exited;
  }

  /** Ends both at once, if they have not ended. */
  async end(): Promise<void> {
    this.#process.stdin?.end();
    await this.#exited;
  }

  async #untilReady(words: string): Promise<void> {
    const before = this.#count(/^ready$/);
    this.#tell(words);
    await eventually(() => expect(this.#count(/^ready$/)).toBe(before + 1));
  }

  #tell(words: string): void {
    this.#process.stdin?.write(`${words}\n`);
  }

  #count(line: RegExp): number {
    return this.#output.split('\n').filter((each) => line.test(each)).length;
  }
}
