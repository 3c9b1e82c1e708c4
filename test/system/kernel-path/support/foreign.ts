/** A program of somebody else's on a device's hook: counts what comes to it, and says what becomes of it. */
import { exec } from '../../../../src/base/exec.js';
import { Assembler, r0, r1, r2, r10 } from '../../../../src/kernel-path/assembler/assembler.js';
import { SK_BUFF, TC_ACT_SHOT, TC_ACT_UNSPEC } from '../../../../src/kernel-path/assembler/symbols.js';
import { type Attachment, attach, type Direction, type Way } from '../../../../src/kernel-path/attachment.js';
import { Bpf } from '../../../../src/kernel-path/bpf.js';
import { BPF_MAP_TYPE_ARRAY, BPF_PROG_TYPE_SCHED_CLS } from '../../../../src/linux/bpf.js';
import type { Namespace } from '../../datapath/support/namespace.js';
import { ifIndex } from '../../datapath/support/sockets.js';

export const PASS = TC_ACT_UNSPEC;
export const DROP = TC_ACT_SHOT;

const KEY_BYTES = 4;
const COUNT_BYTES = 8;

export interface ForeignPlace {
  readonly namespace: Namespace;
  readonly device: string;
  readonly direction: Direction;
  readonly way: Way;
  /** Of a filter: lower ones come first. */
  readonly pref?: number;
}

export class Foreign {
  readonly #bpf = new Bpf();
  readonly #map: number;
  readonly #program: number;
  #attachment: Attachment | null = null;
  #removeFilter: () => Promise<void> = async () => {};
  #removeQdisc: () => Promise<void> = async () => {};

  /** @param verdict for every packet */
  constructor(verdict: number) {
    this.#map = this.#bpf.createMap({
      name: 'foreign_count',
      type: BPF_MAP_TYPE_ARRAY,
      keyBytes: KEY_BYTES,
      valueBytes: COUNT_BYTES,
      maxEntries: 1,
    });
    const asm = new Assembler('foreign', SK_BUFF);
    const key = asm.slot(KEY_BYTES);
    asm
      .store(4, r10, key, 0)
      .map(r1, 'count')
      .alu(r2, '=', r10)
      .alu(r2, '+=', key)
      .call('map_lookup_elem')
      .jumpIf(r0, '==', 0, 'counted')
      .load(8, r1, r0, 0)
      .alu(r1, '+=', 1)
      .store(8, r0, 0, r1)
      .label('counted')
      .alu(r0, '=', verdict)
      .exit();
    const program = asm.assemble();
    this.#program = this.#bpf.load(program.name, BPF_PROG_TYPE_SCHED_CLS, program.bytes({ count: this.#map }));
  }

  /** Behind what is there by a link; by a filter where its preference says. */
  async attach({ namespace, device: name, direction, way, pref = 1 }: ForeignPlace): Promise<void> {
    const device = { name, index: ifIndex(namespace, name) };
    // a link is made before the call returns, and a program is started
    const within = <T>(work: () => T) => namespace.enter(work);
    const run = (argv: readonly string[], tolerate = false) => within(() => exec(argv, { tolerate }));
    this.#attachment = await within(() => attach(this.#bpf, this.#program, device, direction, way, run, pref));
    if (way === 'tcx') return;
    // tweed's own detaching knows tweed's filters only
    this.#removeFilter = async () => {
      await run(['tc', 'filter', 'del', 'dev', name, direction, 'pref', String(pref)]);
    };
    this.#removeQdisc = async () => {
      await run(['tc', 'qdisc', 'del', 'dev', name, 'clsact'], true);
    };
  }

  /** How many packets have come to it. */
  get seen(): number {
    const value = this.#bpf.lookup(this.#map, new Uint8Array(KEY_BYTES), COUNT_BYTES) ?? new Uint8Array(COUNT_BYTES);
    return Number(new DataView(value.buffer, value.byteOffset).getBigUint64(0, true));
  }

  /** From then on it sees nothing. The qdisc of a filter stays. */
  async takeOff(): Promise<void> {
    await this.#attachment?.detach();
    this.#attachment = null;
    await this.#removeFilter();
    this.#removeFilter = async () => {};
  }

  /** Comes last of all that use the device: the qdisc was made for it. */
  async remove(): Promise<void> {
    await this.takeOff();
    await this.#removeQdisc();
    this.#bpf.close(this.#program);
    this.#bpf.close(this.#map);
  }
}
