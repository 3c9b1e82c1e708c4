/**
 * The bridges that packets of the overlay are spared (programs/deliver.ts): where that program hangs, and what speaks against it.
 *
 * What a bridge does besides finding the port is what its owner has asked of it. Where it has rules of its family, or filters on its
 * way out, packets pass it as ever. Links of others have their turn, for ours comes last.
 */
import { readFileSync } from 'node:fs';
import { messageOf } from '../base/errors.js';
import { BPF_TCX_EGRESS } from '../linux/bpf.js';
import { type Attachment, type Device, foreignFilters, type Run } from './attachment.js';
import type { Bpf } from './bpf.js';

/** Linux 6.16 and older may have tables of ebtables that nftables does not show; they are modules. */
const EBTABLES = /^ebtable_/m;

/** Why packets may not be spared any bridge of this host; empty when they may. @param modules text of /proc/modules */
export async function obstacleOfRules(run: Run, modules: string = readModules()): Promise<string> {
  if (EBTABLES.test(modules)) return 'ebtables may have rules for what bridges forward';
  let tables: string;
  try {
    ({ stdout: tables } = await run(['nft', 'list', 'tables', 'bridge'], true));
  } catch {
    return ''; // no program, no rules
  }
  const [first = ''] = tables.trim().split('\n');
  return first === '' ? '' : `${first} may have rules for what bridges forward`;
}

function readModules(): string {
  try {
    return readFileSync('/proc/modules', 'utf8');
  } catch {
    return '';
  }
}

export interface BridgesStatus {
  /** Names of the bridges that packets are spared. */
  readonly spared: readonly string[];
  /** Why they are not spared others; empty when nothing speaks against it. */
  readonly reason: string;
}

/** Owned by the control thread. */
export class Bridges {
  readonly #bpf: Bpf;
  readonly #program: number;
  readonly #run: Run;
  readonly #hang: (device: Device) => Promise<Attachment>;
  /** By the bridge's number. */
  readonly #hanging = new Map<number, { readonly device: Device; readonly attachment: Attachment }>();
  #reason = '';
  #stopped = false;
  /** One call after the other. */
  #turn: Promise<readonly string[]> = Promise.resolve([]);

  /** @param hang puts the program on a bridge's way out, behind those that are there */
  constructor(bpf: Bpf, program: number, run: Run, hang: (device: Device) => Promise<Attachment>) {
    this.#bpf = bpf;
    this.#program = program;
    this.#run = run;
    this.#hang = hang;
  }

  /**
   * These are the bridges that containers are behind, all of them. Where one cannot be spared, packets pass it: nothing here throws.
   *
   * @returns one line for each program that somebody had taken off
   */
  keep(wanted: readonly Device[]): Promise<readonly string[]> {
    this.#turn = this.#turn.then(() => this.#keep(wanted));
    return this.#turn;
  }

  async #keep(wanted: readonly Device[]): Promise<readonly string[]> {
    const lines: string[] = [];
    if (this.#stopped) return lines;
    const byIndex = new Map(wanted.map((device) => [device.index, device]));
    this.#reason = byIndex.size === 0 ? '' : await obstacleOfRules(this.#run);
    const spared = this.#reason === '' ? byIndex : new Map<number, Device>();
    for (const index of [...this.#hanging.keys()]) {
      if (!spared.has(index)) await this.#tryOn(index, () => this.#takeOff(index));
    }
    for (const [index, device] of spared) {
      await this.#tryOn(index, async () => {
        if (await this.#put(device)) lines.push(`the kernel path's program on the egress of ${device.name}`);
      });
    }
    return lines;
  }

  async #tryOn(index: number, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#hanging.delete(index); // what may be left of it goes with the device, or with this process
      this.#reason = messageOf(error);
    }
  }

  /** @returns whether somebody had taken it off */
  async #put(device: Device): Promise<boolean> {
    const { index, name } = device;
    const known = this.#hanging.get(index);
    const [foreign] = await foreignFilters(name, 'egress', this.#run);
    if (foreign !== undefined) {
      await this.#takeOff(index);
      this.#reason = `the filter ${foreign} hangs on the way out of ${name}`;
      return false;
    }
    const there = (await known?.attachment.isThere()) ?? false;
    if (there && !this.#hasOneBehind(device)) return false;
    await this.#takeOff(index);
    this.#hanging.set(index, { device, attachment: await this.#hang(device) });
    return known !== undefined && !there;
  }

  /** A link of somebody else's that came later, and would not see what ours takes. */
  #hasOneBehind({ index }: Device): boolean {
    const programs = this.#bpf.programsOn(index, BPF_TCX_EGRESS);
    const ours = programs.indexOf(this.#bpf.programId(this.#program));
    return ours >= 0 && ours < programs.length - 1;
  }

  status(): BridgesStatus {
    return { spared: [...this.#hanging.values()].map(({ device }) => device.name), reason: this.#reason };
  }

  /** Takes all programs off. @throws ExecError */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#turn;
    for (const index of [...this.#hanging.keys()]) await this.#takeOff(index);
  }

  async #takeOff(index: number): Promise<void> {
    const known = this.#hanging.get(index);
    this.#hanging.delete(index);
    await known?.attachment.detach();
  }
}
