/** A host's data path without a kernel: memory, peers and forwarders over a FakeKernel. */
import type { Prefix } from '../../../../src/base/ipv4.js';
import { parseIpv4, parsePrefix } from '../../../../src/base/ipv4.js';
import { ForwarderLoop } from '../../../../src/encap/datapath/loop.js';
import type { ForwarderOptions } from '../../../../src/encap/datapath/options.js';
import { RxForwarder } from '../../../../src/encap/datapath/rx.js';
import { TxForwarder } from '../../../../src/encap/datapath/tx.js';
import { ControlBlock } from '../../../../src/encap/forwarding/control-block.js';
import { COUNTER_WORDS, Counters, readDrops, readTotals } from '../../../../src/encap/forwarding/counters.js';
import { PEER_BYTES, PeerTable } from '../../../../src/encap/forwarding/forwarding-table.js';
import { type Layout, LOOP_BYTES, RX_BYTES, TX_BYTES } from '../../../../src/encap/forwarding/layout.js';
import { PrefixTable, prefixTableBytes, rootShift } from '../../../../src/encap/forwarding/prefix-table.js';
import { createSum, type Sum } from '../../../../src/encap/wire/checksum.js';
import { RegionAllocator, SharedMemory } from '../../../../src/linux/memory.js';
import { FakeKernel, SOCKET, TUN, WAKE } from './fake-kernel.js';

export const PORT = 8285;
/** 10.5.<n>.0/24 is leased by 192.0.2.<n>; this host is number 1. */
export const NETWORK = prefix('10.5.0.0/16');
export const OVERLAY_ADDRESS = address('10.5.1.0');
export const ICMP_SOURCE = address('10.5.0.0');

const NODES = 16;
const PEERS = 8;

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

function planSmallLayout(): Layout {
  const regions = new RegionAllocator();
  const layout = {
    control: regions.take(4096),
    loops: regions.take(2 * LOOP_BYTES),
    txCounters: regions.take(COUNTER_WORDS * 8),
    rxCounters: regions.take(COUNTER_WORDS * 8),
    peers: regions.take(PEERS * PEER_BYTES),
    subnets: regions.take(prefixTableBytes(NODES)),
    subnetShift: rootShift(NETWORK),
    senders: regions.take(prefixTableBytes(NODES)),
    tx: regions.take(TX_BYTES, 4096),
    rx: regions.take(RX_BYTES, 4096),
  };
  return { ...layout, bytes: regions.used + GUARD };
}

/** Behind the last region, to see whether anything is written there. */
const GUARD = 65_536;
const layout = planSmallLayout();
/** One memory for all tests of a file: a WebAssembly memory reserves gigabytes of address space. */
const memory = SharedMemory.create(layout.bytes);
const sum = createSum(memory);

export interface Workbench {
  readonly memory: SharedMemory;
  readonly sum: Sum;
  readonly layout: Layout;
  readonly kernel: FakeKernel;
  readonly control: ControlBlock;
  readonly peers: PeerTable;
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
  const control = new ControlBlock(memory.i32, layout.control);
  const txCounters = new Counters(memory.f64, layout.txCounters);
  const rxCounters = new Counters(memory.f64, layout.rxCounters);
  const subnets = new PrefixTable(memory.i32, layout.subnets >>> 2, NODES, NETWORK);
  const senders = new PrefixTable(memory.i32, layout.senders >>> 2, NODES, prefix('0.0.0.0/0'));
  const peers = new PeerTable(memory, layout.peers, PEERS, options.port, subnets, senders);
  peers.set(subnet(2), host(2));
  peers.set(subnet(3), host(3));
  const fragments: boolean[] = [];
  const loop = new ForwarderLoop(memory, layout.loops, kernel, control, WAKE, options.socket);
  const some = (all: Record<string, number>, direction: string) =>
    Object.fromEntries(
      Object.entries(all)
        .filter(([name, value]) => value !== 0 && name.startsWith(`${direction}_`))
        .map(([name, value]) => [name.slice(3), value]),
    );
  return {
    memory,
    sum,
    layout,
    kernel,
    control,
    peers,
    txCounters,
    rxCounters,
    options,
    fragments,
    tx: (pathMtu = () => 1500) =>
      new TxForwarder(memory, kernel, sum, txCounters, control, options, {
        pathMtu,
        allowFragments: (allowed) => fragments.push(allowed),
        awaitRoom: () => loop.awaitRoom(),
      }),
    loop,
    rx: () => new RxForwarder(memory, kernel, sum, rxCounters, control, options),
    counted: (direction) => some(readTotals(txCounters, rxCounters), direction),
    dropped: (direction) => some(readDrops(txCounters, rxCounters), direction),
  };
}
