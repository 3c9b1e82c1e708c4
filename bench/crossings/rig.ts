/**
 * One way from container to container with every descriptor on it in one thread's hands.
 *
 * Theory of operation. Sockets and devices belong to the network namespace in which they were made, not to that of who
 * uses them. So one thread visits the namespaces of two hosts and two containers, opens the application's sockets, the
 * TUN devices and the UDP sockets there, and comes home. After that it makes all six crossings of a packet by itself,
 * one after another: no other thread has to be woken, and no scheduler decides what is measured. The crossings two to
 * five are made by the daemon's own forwarders.
 */
import { closeSync, openSync } from 'node:fs';
import os from 'node:os';
import { maxSegments } from '../../src/backend/udp/kernel-quirks.js';
import { netmask, type Prefix, parseIpv4, parsePrefix } from '../../src/base/ipv4.js';
import type { ForwarderOptions } from '../../src/encap/datapath/options.js';
import { MAX_RECEIVE_SLOTS, RxForwarder } from '../../src/encap/datapath/rx.js';
import { TxForwarder } from '../../src/encap/datapath/tx.js';
import { openUdpSocket, type UdpSocket } from '../../src/encap/datapath/udp-socket.js';
import { ControlBlock } from '../../src/encap/forwarding/control-block.js';
import { Counters } from '../../src/encap/forwarding/counters.js';
import { PeerTable } from '../../src/encap/forwarding/forwarding-table.js';
import { PEER_CAPACITY, planLayout, SENDER_NODES, SUBNET_NODES } from '../../src/encap/forwarding/layout.js';
import { PrefixTable } from '../../src/encap/forwarding/prefix-table.js';
import { createSum } from '../../src/encap/wire/checksum.js';
import { ipInside } from '../../src/lab/namespace.js';
import { control, syscalls } from '../../src/linux/libc.js';
import { SharedMemory } from '../../src/linux/memory.js';
import { openTun, type TunDevice } from '../../src/tun/device.js';
import { BenchError } from '../errors.js';
import { type End, NETWORK, Pair } from '../network/pair.js';
import type { Clock } from './clock.js';
import { CLONE_NEWNET, native } from './native.js';
import { TimedSyscalls } from './timed-syscalls.js';

export const MTU = 1472;
/** A second device whose queue nobody empties: what is sent there is dropped at once. */
export const SINK_ADDRESS = '192.168.65.1';
const SINK_NETWORK = '192.168.65.0/24';
const DEVICE = 'flannel0';
const PORT = 8285;
const BUFFER = 7 << 20;

/**
 * `single`: every offload off, one packet per call. `super`: as shipped, super-packets where they are larger than a
 * packet.
 */
export type Mode = 'single' | 'super';

/** One host: its device, its socket, and the forwarder of the direction that this side plays. */
export interface RigHost {
  readonly tun: TunDevice;
  readonly socket: UdpSocket;
  readonly memory: SharedMemory;
  readonly calls: TimedSyscalls;
  readonly peers: PeerTable;
}

export class Rig {
  readonly #pair: Pair;
  readonly #descriptors: number[] = [];
  readonly mode: Mode;
  sender!: RigHost & { readonly forwarder: TxForwarder };
  receiver!: RigHost & { readonly forwarder: RxForwarder };

  private constructor(pair: Pair, mode: Mode) {
    this.#pair = pair;
    this.mode = mode;
  }

  static async up(mode: Mode, clock: Clock): Promise<Rig> {
    const rig = new Rig(await Pair.up(`crossings-${mode}`, MTU), mode);
    try {
      const [near, far] = rig.ends;
      const sender = await rig.#makeHost(near, clock);
      const receiver = await rig.#makeHost(far, clock);
      rig.sender = { ...sender, forwarder: rig.#makeTx(sender, near, far) };
      rig.receiver = { ...receiver, forwarder: rig.#makeRx(receiver, far, near) };
    } catch (error) {
      await rig.down();
      throw error;
    }
    return rig;
  }

  get ends(): readonly [End, End] {
    return this.#pair.ends;
  }

  /** Opens something inside a namespace; it is closed with the rig. */
  openIn<T>(namespace: string, open: () => T, descriptorOf: (opened: T) => number): T {
    const opened = inNamespace(namespace, open);
    this.#descriptors.push(descriptorOf(opened));
    return opened;
  }

  /** Makes the device that drops everything, in a host's or container's namespace. */
  async addSink(namespace: string): Promise<void> {
    const name = 'sink0';
    // it takes super-packets as they are, so that nothing but the drop is added to what is measured
    const sink = this.openIn(
      namespace,
      () => openTun(name, { tso: 'auto', uso: 'auto' }),
      ({ fd }) => fd,
    );
    await ipInside(namespace, [`link set ${sink.name} txqueuelen 1 up`, `route add ${SINK_NETWORK} dev ${sink.name}`]);
  }

  async #makeHost(end: End, clock: Clock): Promise<RigHost> {
    const wanted = this.mode === 'super' ? 'auto' : 'off';
    const tun = this.openIn(
      end.host,
      () => openTun(DEVICE, { tso: wanted, uso: wanted }),
      ({ fd }) => fd,
    );
    await ipInside(end.host, [
      `link set ${DEVICE} mtu ${MTU} txqueuelen 1000 up`,
      `addr add ${end.subnet.replace('/24', '/32')} dev ${DEVICE}`,
      `route add ${NETWORK} dev ${DEVICE}`,
    ]);
    const options = { address: address(end.address), port: PORT, gso: wanted, gro: wanted, buffer: BUFFER } as const;
    const socket = this.openIn(
      end.host,
      () => openUdpSocket(options),
      ({ fd }) => fd,
    );
    const network = prefix(NETWORK);
    const layout = planLayout(network);
    const memory = SharedMemory.create(layout.bytes);
    const peers = new PeerTable(
      memory,
      layout.peers,
      PEER_CAPACITY,
      PORT,
      new PrefixTable(memory.i32, layout.subnets >>> 2, SUBNET_NODES, network),
      new PrefixTable(memory.i32, layout.senders >>> 2, SENDER_NODES, { address: 0, length: 0 }),
    );
    return { tun, socket, memory, calls: new TimedSyscalls(syscalls, clock), peers };
  }

  /** Where the sending host takes the packets for the far container: to its host, or to the sink. */
  sendTo(where: 'peer' | 'sink'): void {
    const [, far] = this.ends;
    this.sender.peers.set(prefix(far.subnet), address(where === 'peer' ? far.address : SINK_ADDRESS));
  }

  #forwarderOptions(host: RigHost, own: End, peer: End): ForwarderOptions {
    const network = prefix(NETWORK);
    const subnet = prefix(own.subnet);
    const layout = planLayout(network);
    const { socket, tun, peers } = host;
    peers.set(prefix(peer.subnet), address(peer.address));
    return {
      layout,
      tun: tun.fd,
      socket: socket.fd,
      vnetHeader: tun.vnetHeader,
      network: network.address,
      networkMask: netmask(network.length),
      subnet: subnet.address,
      subnetMask: netmask(subnet.length),
      port: PORT,
      encapsulationOverhead: 28,
      maxSegments: socket.gso ? maxSegments(os.release()) : 1,
      receiveSlots: this.mode === 'super' ? MAX_RECEIVE_SLOTS : 1,
      mergeTcp: tun.tso,
      mergeUdp: tun.uso,
      checkSenders: true,
      icmpSource: network.address,
      overlayAddress: subnet.address,
      icmpPerSecond: 100,
      icmpBurst: 50,
    };
  }

  #makeTx(host: RigHost, own: End, peer: End): TxForwarder {
    const options = this.#forwarderOptions(host, own, peer);
    const { memory, calls } = host;
    const counters = new Counters(memory.f64, options.layout.txCounters);
    const block = new ControlBlock(memory.i32, options.layout.control);
    const services = { pathMtu: () => 0, allowFragments: () => {}, awaitRoom: () => {} };
    return new TxForwarder(memory, calls, createSum(memory), counters, block, options, services);
  }

  #makeRx(host: RigHost, own: End, peer: End): RxForwarder {
    const options = this.#forwarderOptions(host, own, peer);
    const { memory, calls } = host;
    const counters = new Counters(memory.f64, options.layout.rxCounters);
    const block = new ControlBlock(memory.i32, options.layout.control);
    return new RxForwarder(memory, calls, createSum(memory), counters, block, options);
  }

  async down(): Promise<void> {
    for (const fd of this.#descriptors.splice(0)) control.close(fd);
    await this.#pair.down();
  }
}

/** Runs synchronous work with this thread in another network namespace. */
function inNamespace<T>(namespace: string, work: () => T): T {
  const home = openSync('/proc/thread-self/ns/net', 'r');
  const there = openSync(`/run/netns/${namespace}`, 'r');
  try {
    if (native.setns(there, CLONE_NEWNET) < 0) {
      throw new BenchError('SETNS', `cannot enter ${namespace}; run the benchmark as root`);
    }
    return work();
  } finally {
    native.setns(home, CLONE_NEWNET);
    closeSync(there);
    closeSync(home);
  }
}

function address(text: string): number {
  return parseIpv4(text) as number;
}

function prefix(text: string): Prefix {
  return parsePrefix(text) as Prefix;
}
