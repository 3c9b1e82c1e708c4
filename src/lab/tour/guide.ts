import { fileURLToPath } from 'node:url';
import type { ExecResult } from '../../base/exec.js';
import { packageFile } from '../../base/package.js';
import { LabError } from '../errors.js';
import { labWords } from '../hints.js';
import type { Lab } from '../lab.js';
import { parsePublication, parsePublishedPort } from '../names.js';
import { patient } from '../patience.js';
import { traceable } from '../trace/places.js';
import type { TraceReport } from '../trace/report.js';
import { formatTrace } from '../trace/text.js';
import { type TraceOptions, trace } from '../trace/trace.js';

/** What the tour told was not so. */
export class TourError extends LabError {
  constructor(claim: string) {
    super('LAB_TOUR', `this is not so here: ${claim}; look at what the commands above printed`);
  }
}

/** What a stop needs of a lab. A test has another one. */
export type TourLab = Pick<
  Lab,
  | 'name'
  | 'exec'
  | 'host'
  | 'files'
  | 'publish'
  | 'unpublish'
  | 'stopDaemon'
  | 'startDaemon'
  | 'daemonPid'
  | 'waitForPeers'
>;

const program = fileURLToPath(packageFile('dist/cli/tweed.cjs'));

/** Leads through one stop: says, shows, and checks each thing that it says. */
export class Guide {
  readonly #lab: TourLab;
  readonly #write: (line: string) => void;
  readonly #pause: () => Promise<void>;
  #claims = 0;

  /** @param pause waits until the reader has read on */
  constructor(lab: TourLab, write: (line: string) => void, pause: () => Promise<void> = async () => {}) {
    this.#lab = lab;
    this.#write = write;
    this.#pause = pause;
  }

  get lab(): TourLab {
    return this.#lab;
  }

  /** How many things were said that were checked. */
  get claims(): number {
    return this.#claims;
  }

  say(text: string): void {
    this.#write('');
    this.#write(text);
  }

  /**
   * Runs a command in a place and shows it with all that it prints. `tweed` is this one, with the host's own daemon.
   *
   * @param command as a shell takes it
   * @param most so many lines are shown at most; what is left out is told
   * @returns both its outputs, as shown
   */
  async run(place: string, command: string, most = 100): Promise<ExecResult & { readonly text: string }> {
    this.#write('');
    this.#write(`${place}$ ${command}`);
    const result = await this.#lab.exec(place, this.#argv(place, command), {
      tolerate: true,
      timeoutMs: patient(120_000),
    });
    const text = `${result.stdout}${result.stderr}`.trimEnd();
    const lines = text === '' ? [] : text.split('\n');
    for (const line of lines.slice(0, most)) this.#write(line);
    if (lines.length > most) this.#write(`… and ${lines.length - most} more lines`);
    return { ...result, text };
  }

  #argv(place: string, command: string): string[] {
    const [first, ...words] = command.split(' ');
    if (first !== 'tweed') return ['sh', '-c', command];
    return [process.execPath, program, ...words, '--run-dir', this.#lab.files.runFolder(place)];
  }

  /** Says what to see in what was printed, and makes sure that it is there. @throws TourError */
  notice(claim: string, holds: boolean): void {
    this.#claims++;
    this.#write(`   ${holds ? '→' : '✗'} ${claim}`);
    if (!holds) throw new TourError(claim);
  }

  /** Breaks something by a command, shows what comes of it, and mends it by another, also when a claim fails. */
  async broken(place: string, fault: string, cure: string, work: () => Promise<void>): Promise<void> {
    await this.#pause();
    this.say('Break it:');
    await this.#must(place, fault);
    try {
      await work();
    } finally {
      this.say('Mend it:');
      await this.#must(place, cure);
    }
  }

  async #must(place: string, command: string): Promise<void> {
    const { status, text } = await this.run(place, command);
    if (status !== 0) throw new TourError(`\`${command}\` works in ${place} (it said: ${text})`);
  }

  /** Follows a packet, as `lab trace` does. */
  async trace(options: TraceOptions): Promise<TraceReport> {
    const { from, to, protocol, port, size, listen, back } = options;
    const words = [
      ...(protocol === 'icmp' ? [] : [`--${protocol}`, String(port)]),
      ...(size === undefined ? [] : ['--size', String(size)]),
      ...(listen ? ['--listen'] : []),
      ...(back ? ['--back'] : []),
    ];
    this.#command('trace', from, to, ...words);
    const report = await trace(traceable(this.#lab as Lab), options);
    this.#write(formatTrace(report));
    return report;
  }

  async publish(from: string, to: string): Promise<void> {
    this.#command('publish', from, to);
    await this.#lab.publish(parsePublication(from, to));
  }

  async unpublish(port: string): Promise<void> {
    this.#command('unpublish', port);
    const { host, number } = parsePublishedPort(port);
    await this.#lab.unpublish(host, number);
  }

  /** Ends a host's daemon for the time of the work. */
  async withoutDaemon(host: string, work: () => Promise<void>): Promise<void> {
    await this.#pause();
    this.say('Break it:');
    this.#write('');
    this.#write(`${host}$ kill ${await this.#lab.daemonPid(host)}`);
    await this.#lab.stopDaemon(host);
    try {
      await work();
    } finally {
      this.say('Mend it:');
      this.#command('up');
      await this.#lab.startDaemon(host);
      await this.#lab.waitForPeers();
    }
  }

  /** A command of the lab itself, as it is typed. */
  #command(command: string, ...words: string[]): void {
    this.#write('');
    this.#write(`$ ${labWords(this.#lab.name, command, ...words)}`);
  }
}
