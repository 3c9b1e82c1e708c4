/** A host's data path without a kernel: memory, peers and forwarders over a FakeKernel. */
import type { Prefix } from '../../../../src/base/ipv4.js';
import { parseIpv4, parsePrefix } from '../../../../src/base/ipv4.js';
import { type Ipv6Prefix, parseIpv6, parseIpv6Prefix } from '../../../../src/base/ipv6.js';
import { type ForwarderContext, makeContext } from '../../../../src/encap/datapath/context.js';
import { ForwarderLoop } from '../../../../src/encap/datapath/loop.js';
import type { ForwarderOptions, SealingOptions } from '../../../../src/encap/datapath/options.js';
import { RxForwarder } from '../../../../src/encap/datapath/rx.js';
import { TxForwarder } from '../../../../src/encap/datapath/tx.js';
import type { ControlBlock } from '../../../../src/encap/forwarding/control-block.js';
import { type Counters, readDrops, readTotals } from '../../../../src/encap/forwarding/counters.js';
import { ForwardingTable, type Peer, peerName } from '../../../../src/encap/forwarding/forwarding-table.js';
import { type Layout, planLayout } from '../../../../src/encap/forwarding/layout.js';
import { RegionAllocator, SharedMemory } from '../../../../src/linux/memory.js';
import { planTransport } from '../../../../src/wireguard/transport-layout.js';
import { FakeKernel, SOCKET, SOCKET_V6, TUN, WAKE } from './fake-kernel.js';

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

export function prefixV6(text: string): Ipv6Prefix {
  return parseIpv6Prefix(text)!;
}

export function hostV6(n: number): bigint {
  return parseIpv6(`2001:db8::${n.toString(16)}`)!;
}

export function subnetV6(n: number): Ipv6Prefix {
  return prefixV6(`fd00::${n.toString(16)}:0/112`);
}

const BOTH = { ipv4: true, ipv6: true };

/** Behind the last region, to see whether anything is written there. */
const GUARD = 65_536;
/** fd00::<n>:0/112 is leased by 2001:db8::<n>, as tests need it. */
export const NETWORK_V6 = prefixV6('fd00::/16');
export const NETWORKS = { ipv4: NETWORK, ipv6: NETWORK_V6 };

const planned = planLayout(NETWORKS, CAPACITY);
const layout: Layout = { ...planned, bytes: planned.bytes + GUARD };
/** For benches whose datagrams are sealed: behind everything else, the sessions of as many peers as there may be. */
const behind = new RegionAllocator(layout.bytes);
export const SEALING: SealingOptions = { layout: planTransport(behind, CAPACITY.peers), mtu: 1440 };
/** One memory for all tests of a file: a WebAssembly memory reserves gigabytes of address space. */
const memory = SharedMemory.create(behind.used);

/** A forwarding table of which one peer at a time changes. */
export class Peers {
  readonly table: ForwardingTable;
  readonly #list = new Map<string, Peer>();

  constructor(table: ForwardingTable) {
    this.table = table;
  }

  set(subnet: Prefix, publicIp: number): void {
    this.put({ subnet, publicIp });
  }

  put(peer: Peer): void {
    this.#list.set(peerName(peer), peer);
    this.table.replaceAll([...this.#list.values()]);
  }

  delete(subnet: Prefix): void {
    this.#list.delete(peerName({ subnet }));
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
  /** @param family of the socket that it reads */
  readonly rx: (family?: 4 | 6) => RxForwarder;
  /** How often the control thread was called. */
  readonly calls: readonly string[];
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
  memory.u8.fill(0, layout.rxV6, layout.rxV6 + 2 ** 20);
  memory.u8.fill(0, layout.bytes, behind.used);
  const options: ForwarderOptions = {
    layout,
    tun: TUN,
    socket: SOCKET,
    socketV6: SOCKET_V6,
    carriesIpv4: true,
    vnetHeader: true,
    network: NETWORK.address,
    networkMask: 0xffff0000,
    subnet: subnet(1).address,
    subnetMask: 0xffffff00,
    ipv6: {
      network: NETWORK_V6,
      subnet: subnetV6(1),
      icmpSource: NETWORK_V6.address,
      overlayAddress: subnetV6(1).address,
    },
    port: PORT,
    mtu: 1472,
    mayBeUnfinished: false,
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
  const calls: string[] = [];
  const context = makeContext(memory, kernel, options, () => calls.push('call'));
  const { control, counters } = context;
  control.peersComplete = true;
  const peers = new Peers(
    new ForwardingTable({ memory, layout, control, networks: NETWORKS, underlay: BOTH, port: options.port }),
  );
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
    calls,
    tx: (pathMtu = () => 1500) =>
      new TxForwarder(context, {
        pathMtu,
        allowFragments: (_socket, allowed) => fragments.push(allowed),
        awaitRoom: (socket) => loop.awaitRoom(socket),
      }),
    loop,
    rx: (family) => new RxForwarder(context, family),
    counted: (direction) => some(readTotals(counters.tx, counters.rx), direction),
    dropped: (direction) => some(readDrops(counters.tx, counters.rx), direction),
  };
}
