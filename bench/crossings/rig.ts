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
import { Descriptors } from '../../src/backend/udp/descriptors.js';
import { forwarderOptions } from '../../src/backend/udp/forwarder-options.js';
import { type Prefix, parseIpv4, parsePrefix } from '../../src/base/ipv4.js';
import { type ForwarderContext, makeContext } from '../../src/encap/datapath/context.js';
import { DataPlane } from '../../src/encap/datapath/data-plane.js';
import { RxForwarder } from '../../src/encap/datapath/rx.js';
import { TxForwarder } from '../../src/encap/datapath/tx.js';
import { ipInside } from '../../src/lab/namespace.js';
import { control, syscalls } from '../../src/linux/libc.js';
import { openTun } from '../../src/tun/device.js';
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
  readonly tun: Descriptors['tun'];
  readonly socket: Descriptors['socket'];
  readonly plane: DataPlane;
  readonly calls: TimedSyscalls;
  readonly context: ForwarderContext;
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
      const sender = await rig.#makeHost(near, far, clock);
      const receiver = await rig.#makeHost(far, near, clock);
      const outlet = { pathMtu: () => 0, allowFragments: () => {}, awaitRoom: () => {} };
      rig.sender = { ...sender, forwarder: new TxForwarder(sender.context, outlet) };
      rig.receiver = { ...receiver, forwarder: new RxForwarder(receiver.context) };
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

  async #makeHost(end: End, peer: End, clock: Clock): Promise<RigHost> {
    const wanted = this.mode === 'super' ? 'auto' : 'off';
    const descriptors = inNamespace(end.host, () =>
      Descriptors.open({
        device: DEVICE,
        tso: wanted,
        uso: wanted,
        address: address(end.address),
        port: PORT,
        gso: wanted,
        gro: wanted,
        buffer: BUFFER,
      }),
    );
    const { tun, socket } = descriptors;
    this.#descriptors.push(tun.fd, socket.fd);
    await ipInside(end.host, [
      `link set ${DEVICE} mtu ${MTU} txqueuelen 1000 up`,
      `addr add ${end.subnet.replace('/24', '/32')} dev ${DEVICE}`,
      `route add ${NETWORK} dev ${DEVICE}`,
    ]);
    const network = prefix(NETWORK);
    const plane = new DataPlane({ ipv4: network, ipv6: null }, PORT);
    plane.control.peersComplete = true;
    plane.table.replaceAll([{ subnet: prefix(peer.subnet), publicIp: address(peer.address) }]);
    const calls = new TimedSyscalls(syscalls, clock);
    const options = forwarderOptions({
      layout: plane.layout,
      descriptors,
      networks: { ipv4: network, ipv6: null },
      subnets: { ipv4: prefix(end.subnet), ipv6: null },
      port: PORT,
      mtu: MTU,
      mayBeUnfinished: false,
      checkSenders: true,
      batch: this.mode === 'super',
      merging: { tcp: tun.tso, udp: tun.uso },
    });
    return { tun, socket, plane, calls, context: makeContext(plane.memory, calls, options) };
  }

  /** Where the sending host takes the packets for the far container: to its host, or to the sink. */
  sendTo(where: 'peer' | 'sink'): void {
    const [, far] = this.ends;
    const publicIp = address(where === 'peer' ? far.address : SINK_ADDRESS);
    this.sender.plane.table.replaceAll([{ subnet: prefix(far.subnet), publicIp }]);
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
