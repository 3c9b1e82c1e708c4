/** The programs without devices: the kernel runs them on frames of ours and tells what became of each. */

import { readFileSync } from 'node:fs';
import { SK_BUFF, SK_BUFF_BYTES, TC_ACT_REDIRECT, TC_ACT_SHOT } from '../../../../src/kernel-path/assembler/symbols.js';
import { Bpf } from '../../../../src/kernel-path/bpf.js';
import { conntrackPlaces } from '../../../../src/kernel-path/conntrack.js';
import { countProcessors } from '../../../../src/kernel-path/kernel-path.js';
import { closeMaps, createMaps, ETHERNET_BYTES, type Maps } from '../../../../src/kernel-path/maps.js';
import { decapProgram } from '../../../../src/kernel-path/programs/decap.js';
import { deliverProgram } from '../../../../src/kernel-path/programs/deliver.js';
import { encapProgram } from '../../../../src/kernel-path/programs/encap.js';
import type { InboundMode } from '../../../../src/kernel-path/programs/settings.js';
import { KernelTable } from '../../../../src/kernel-path/table.js';
import { BPF_PROG_TYPE_SCHED_CLS } from '../../../../src/linux/bpf.js';
import { plainSum, setWord } from '../../../unit/encap/support/reference.js';
import { host, NETWORK, PORT, subnet } from '../../../unit/encap/support/workbench.js';

const HOUR_NS = 3_600_000_000_000n;

/** `left`: on to user space. */
export type Verdict = 'taken' | 'left' | 'dropped';

export interface Outcome {
  readonly verdict: Verdict;
  /** The frame behind its Ethernet header. */
  readonly packet: Uint8Array;
  readonly frame: Uint8Array;
}

/** The same host 1 with peers 2 and 3 that the workbench of user space has. */
export class ByteBench {
  readonly bpf = new Bpf();
  readonly maps: Maps = createMaps(this.bpf, { peers: 64, containers: 64, flows: 64 });
  readonly table: KernelTable;
  readonly #decap: number;
  readonly #encap: number;
  readonly #deliver: number;
  readonly #deliverOfOthers: number;

  constructor(mode: InboundMode = 'route', pathMtu = 1500) {
    const { bpf, maps } = this;
    const settings = {
      network: NETWORK,
      subnet: subnet(1),
      address: host(1),
      port: PORT,
      underlayIfindex: 1,
      tunIfindex: 1,
    };
    const load = (program: ReturnType<typeof encapProgram>) =>
      bpf.load(program.name, BPF_PROG_TYPE_SCHED_CLS, program.bytes(maps));
    this.#decap = load(decapProgram(settings, mode));
    // a test run knows only devices with Ethernet
    this.#encap = load(encapProgram(settings, mode === 'direct' ? conntrackPlaces() : null, ETHERNET_BYTES));
    // a test run has come in by device 0, and goes out by 1
    this.#deliver = load(deliverProgram({ tunIfindex: 0 }));
    this.#deliverOfOthers = load(deliverProgram({ tunIfindex: 9 }));
    const processors = countProcessors(readFileSync('/sys/devices/system/cpu/possible', 'utf8'));
    this.table = new KernelTable(bpf, maps, { address: host(1), port: PORT, capacity: 64, processors });
    this.tend();
    this.table.replaceAll([2, 3].map((n) => ({ subnet: subnet(n), publicIp: host(n), pathMtu })));
  }

  /** For longer than any test takes. */
  tend(): void {
    this.table.tend(process.hrtime.bigint() + HOUR_NS);
  }

  decap(frame: Uint8Array, gsoSize = 0): Outcome {
    return this.#run(this.#decap, frame, gsoSize);
  }

  encap(packet: Uint8Array, gsoSize = 0): Outcome {
    return this.#run(this.#encap, ethernet(packet), gsoSize);
  }

  /** On the way out of a bridge, which is device 1. @param byOverlay false: it has not come in by flannel0 */
  deliver(frame: Uint8Array, gsoSize = 0, byOverlay = true): Outcome {
    return this.#run(byOverlay ? this.#deliver : this.#deliverOfOthers, frame, gsoSize);
  }

  #run(program: number, frame: Uint8Array, gsoSize: number): Outcome {
    const { result, data } = this.bpf.testRun(program, frame, gsoSize === 0 ? undefined : context(gsoSize));
    const verdict = verdicts.get(result | 0);
    if (verdict === undefined) throw new Error(`the program returned ${result | 0}`);
    return { verdict, frame: data, packet: data.subarray(ETHERNET_BYTES) };
  }

  /** Drops that are not 0, as the workbench's `dropped`. */
  dropped(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.table.counters().drops).filter(([, count]) => count !== 0));
  }

  close(): void {
    this.bpf.close(this.#decap);
    for (const program of [this.#encap, this.#deliver, this.#deliverOfOthers]) this.bpf.close(program);
    closeMaps(this.bpf, this.maps);
  }
}

const verdicts = new Map<number, Verdict>([
  [TC_ACT_REDIRECT, 'taken'],
  [TC_ACT_SHOT, 'dropped'],
  [-1, 'left'],
]);

function context(gsoSize: number): Uint8Array {
  const bytes = new Uint8Array(SK_BUFF_BYTES);
  new DataView(bytes.buffer).setUint32(SK_BUFF.gso_size.offset, gsoSize, true);
  return bytes;
}

/** A frame to this host: the addresses of a test run's device are zeros. */
export function ethernet(packet: Uint8Array, type = 0x0800): Uint8Array {
  const frame = new Uint8Array(ETHERNET_BYTES + packet.length);
  setWord(frame, 12, type);
  frame.set(packet, ETHERNET_BYTES);
  return frame;
}

export interface OuterFields {
  readonly from: number;
  readonly to: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** The datagram that brings a packet, headers right, UDP checksum 0. */
export function outer(packet: Uint8Array, fields: Partial<OuterFields> = {}): Uint8Array {
  const { from, to, sourcePort, destinationPort } = {
    from: host(2),
    to: host(1),
    sourcePort: PORT,
    destinationPort: PORT,
    ...fields,
  };
  const bytes = new Uint8Array(28 + packet.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x45;
  view.setUint16(2, bytes.length);
  view.setUint16(6, 0x4000);
  bytes[8] = 64;
  bytes[9] = 17;
  view.setUint32(12, from);
  view.setUint32(16, to);
  view.setUint16(10, 0xffff - plainSum(bytes.subarray(0, 20)));
  view.setUint16(20, sourcePort);
  view.setUint16(22, destinationPort);
  view.setUint16(24, 8 + packet.length);
  bytes.set(packet, 28);
  return bytes;
}
