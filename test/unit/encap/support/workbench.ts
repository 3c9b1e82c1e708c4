/** A host's data path without a kernel: memory, peers and forwarders over a FakeKernel. */
import type { Prefix } from '../../../../src/base/ipv4.js';
import { formatPrefix, parseIpv4, parsePrefix } from '../../../../src/base/ipv4.js';
import { type ForwarderContext, makeContext } from '../../../../src/encap/datapath/context.js';
import { ForwarderLoop } from '../../../../src/encap/datapath/loop.js';
import type { ForwarderOptions } from '../../../../src/encap/datapath/options.js';
import { RxForwarder } from '../../../../src/encap/datapath/rx.js';
import { TxForwarder } from '../../../../src/encap/datapath/tx.js';
import type { ControlBlock } from '../../../../src/encap/forwarding/control-block.js';
import { type Counters, readDrops, readTotals } from '../../../../src/encap/forwarding/counters.js';
import { ForwardingTable, type Peer } from '../../../../src/encap/forwarding/forwarding-table.js';
import { type Layout, planLayout } from '../../../../src/encap/forwarding/layout.js';
import { SharedMemory } from '../../../../src/linux/memory.js';
import { FakeKernel, SOCKET, TUN, WAKE } from './fake-kernel.js';

export const PORT = 8285;
/** 10.5.<n>.0/24 is leased by 192.0.2.<n>; this host is number 1. */
export const NETWORK = prefix('10.5.0.0/16');
export const OVERLAY_ADDRESS = address('10.5.1.0');
export const ICMP_SOURCE = address('10.5.0.0');

const CAPACITY = { peers: 8, subnetNodes: 16, senderNodes: 16 };

export function prefix(text: string): Prefix {
  return parsePrefix(text)!;
}

export function address(text: string): number {
  return parseIpv4(text)!;
}

/** The underlay address of host `n`. */
export function host(n: number): number {
  return address(`192.0.2.${n}`);
}

export function subnet(n: number): Prefix {
  return prefix(`10.5.${n}.0/24`);
}

/** Behind the last region, to see whether anything is written there. */
const GUARD = 65_536;
const planned = planLayout(NETWORK, CAPACITY);
const layout: Layout = { ...planned, bytes: planned.bytes + GUARD };
/** One memory for all tests of a file: a WebAssembly memory reserves gigabytes of address space. */
const memory = SharedMemory.create(layout.bytes);

/** A forwarding table of which one peer at a time changes. */
export class Peers {
  readonly table: ForwardingTable;
  readonly #list = new Map<string, Peer>();

  constructor(table: ForwardingTable) {
    this.table = table;
  }

  set(subnet: Prefix, publicIp: number): void {
    this.#list.set(formatPrefix(subnet), { subnet, publicIp });
    this.table.replaceAll([...this.#list.values()]);
  }

  delete(subnet: Prefix): void {
    this.#list.delete(formatPrefix(subnet));
    this.table.replaceAll([...this.#list.values()]);
  }
}

export interface Workbench {
  readonly memory: SharedMemory;
  readonly context: ForwarderContext;
  readonly layout: Layout;
  readonly kernel: FakeKernel;
  readonly control: ControlBlock;
  readonly peers: Peers;
  readonly txCounters: Counters;
  readonly rxCounters: Counters;
  readonly options: ForwarderOptions;
  readonly tx: (pathMtu?: (peer: number) => number) => TxForwarder;
  /** The loop of a thread; the transmitting forwarder waits for room in it. */
  readonly loop: ForwarderLoop;
  /** What the socket was told about fragments, in order. */
  readonly fragments: boolean[];
  readonly rx: () => RxForwarder;
  /** The counters that are not 0, without the prefix of their direction. */
  readonly counted: (direction: 'tx' | 'rx') => Record<string, number>;
  /** The drops that are not 0. */
  readonly dropped: (direction: 'tx' | 'rx') => Record<string, number>;
}

/** A clean host number 1 with hosts 2 and 3 as its peers. The one made before must not be used any more. */
export function workbench(changes: Partial<ForwarderOptions> = {}): Workbench {
  // all but the places where packets lie: the constructors count on zeros
  memory.u8.fill(0, 0, layout.tx + 65_536);
  memory.u8.fill(0, layout.rx, layout.rx + 2 ** 20);
  const options: ForwarderOptions = {
    layout,
    tun: TUN,
    socket: SOCKET,
    vnetHeader: true,
    network: NETWORK.address,
    networkMask: 0xffff0000,
    subnet: subnet(1).address,
    subnetMask: 0xffffff00,
    port: PORT,
    mtu: 1472,
    mayBeUnfinished: false,
    encapsulationOverhead: 28,
    maxSegments: 128,
    receiveSlots: 64,
    mergeTcp: true,
    mergeUdp: true,
    checkSenders: true,
    icmpSource: ICMP_SOURCE,
    overlayAddress: OVERLAY_ADDRESS,
    icmpPerSecond: 100,
    icmpBurst: 50,
    ...changes,
  };
  const kernel = new FakeKernel(memory);
  kernel.vnetHeader = options.vnetHeader;
  const context = makeContext(memory, kernel, options);
  const { control, counters } = context;
  control.peersComplete = true;
  const peers = new Peers(new ForwardingTable({ memory, layout, control, network: NETWORK, port: options.port }));
  peers.set(subnet(2), host(2));
  peers.set(subnet(3), host(3));
  const fragments: boolean[] = [];
  const loop = new ForwarderLoop(context, 0, WAKE);
  const some = (all: Record<string, number>, direction: string) =>
    Object.fromEntries(
      Object.entries(all)
        .filter(([name, value]) => value !== 0 && name.startsWith(`${direction}_`))
        .map(([name, value]) => [name.slice(3), value]),
    );
  return {
    memory,
    context,
    layout,
    kernel,
    control,
    peers,
    txCounters: counters.tx,
    rxCounters: counters.rx,
    options,
    fragments,
    tx: (pathMtu = () => 1500) =>
      new TxForwarder(context, {
        pathMtu,
        allowFragments: (allowed) => fragments.push(allowed),
        awaitRoom: () => loop.awaitRoom(),
      }),
    loop,
    rx: () => new RxForwarder(context),
    counted: (direction) => some(readTotals(counters.tx, counters.rx), direction),
    dropped: (direction) => some(readDrops(counters.tx, counters.rx), direction),
  };
}
