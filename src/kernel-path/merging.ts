/**
 * Keeps the merge pair as it is wanted, with the program on it, and tells the programs of it. Where it cannot be had packets are handed
 * on as they are: nothing here throws but `stop`.
 */
import { messageOf } from '../base/errors.js';
import type { Attachment, Device, Run } from './attachment.js';
import { ensureMergePair, type MergePair, merges, removeMergePair } from './merge-pair.js';
import type { KernelTable } from './table.js';

export interface MergingStatus {
  /** Name of the device that packets are sent into; empty when none are. */
  readonly into: string;
  /** Why they are not, though that is wanted. */
  readonly reason: string;
}

export interface MergingOptions {
  readonly wanted: boolean;
  readonly port: number;
  /** Queues of the underlay. */
  readonly queues: number;
  readonly run: Run;
  readonly table: Pick<KernelTable, 'setMergeInto'>;
  /** Puts the program on the way in of the device. */
  hang(device: Device): Promise<Attachment>;
  /** How many programs hang there by links, ours and others'; 0 where the kernel has no such links. */
  programsOn(ifindex: number): number;
  /** A test scripts them. */
  ensure?: typeof ensureMergePair;
  merges?: typeof merges;
  /** Milliseconds of a clock that only goes forward. */
  now?(): number;
}

/** After a failure it is tried again. */
const PATIENCE_MS = 60_000;

/** Owned by the control thread. */
export class Merging {
  readonly #options: MergingOptions;
  #there: { readonly pair: MergePair; readonly attachment: Attachment } | null = null;
  #reason = '';
  #failedAt = Number.NEGATIVE_INFINITY;
  #stopped = false;
  /** One call after the other. */
  #turn: Promise<readonly string[]> = Promise.resolve([]);

  constructor(options: MergingOptions) {
    this.#options = options;
  }

  /** It is to be there. @returns one line for what had to be put back */
  keep(): Promise<readonly string[]> {
    this.#turn = this.#turn.then(() => this.#keep());
    return this.#turn;
  }

  async #keep(): Promise<readonly string[]> {
    const { wanted, now = () => performance.now() } = this.#options;
    if (!wanted || this.#stopped || now() - this.#failedAt < PATIENCE_MS) return [];
    const lost = this.#there !== null;
    try {
      if (!(await this.#works())) {
        await this.#begin();
        if (lost) return ["the kernel path's device for merging"];
      }
      this.#reason = '';
    } catch (error) {
      this.#failedAt = now();
      this.#reason = messageOf(error);
    }
    return [];
  }

  async #works(): Promise<boolean> {
    if (this.#there === null) return false;
    const { pair, attachment } = this.#there;
    try {
      return (await attachment.isThere()) && (this.#options.merges ?? merges)(pair);
    } catch {
      return false; // such as an end that was moved elsewhere: nothing may be sent into it
    }
  }

  async #begin(): Promise<void> {
    const { port, queues, run, table, hang, ensure = ensureMergePair } = this.#options;
    table.setMergeInto(0); // until there is a device that somebody takes packets from
    const lost = this.#there;
    this.#there = null;
    await lost?.attachment.detach();
    const pair = await ensure(port, queues, run);
    let attachment: Attachment | null = null;
    try {
      attachment = await hang(pair.out);
      table.setMergeInto(pair.into.index);
      this.#there = { pair, attachment };
    } catch (error) {
      await this.#remove(pair, attachment);
      throw error;
    }
  }

  status(): MergingStatus {
    return { into: this.#there?.pair.into.name ?? '', reason: this.#reason };
  }

  /** What keeps the program there, for whoever is to hold it. */
  get attachments(): readonly Attachment[] {
    return this.#there === null ? [] : [this.#there.attachment];
  }

  /** Takes the program off, and removes the pair unless another daemon's program hangs there. Nothing is sent into it any more. @throws ExecError */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#turn;
    const there = this.#there;
    this.#there = null;
    if (there !== null) await this.#remove(there.pair, there.attachment);
  }

  async #remove({ out }: MergePair, attachment: Attachment | null): Promise<void> {
    const { port, run, programsOn } = this.#options;
    await attachment?.detach();
    let others = 0;
    try {
      others = programsOn(out.index);
    } catch {
      // the device is gone already
    }
    const another = others > 0 || ((await attachment?.isThere()) ?? false);
    if (!another) await removeMergePair(port, run);
  }
}
