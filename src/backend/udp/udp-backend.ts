/**
 * The `udp` backend: inner packets in UDP datagrams, carried by one forwarder thread or two.
 *
 * This is their control side. It makes the TUN, the socket and the shared memory, starts the threads, keeps the
 * forwarding table, and reads the counters. It is never on a packet's way: it may block for as long as it likes.
 */
import os from 'node:os';
import { messageOf, TweedError } from '../../base/errors.js';
import { contains, formatIpv4, formatPrefix, netmask, type Prefix, prefixSize } from '../../base/ipv4.js';
import type { ForwarderOptions } from '../../encap/datapath/options.js';
import { MAX_RECEIVE_SLOTS } from '../../encap/datapath/rx.js';
import { openUdpSocket, receiveQueueDrops, type UdpSocket } from '../../encap/datapath/udp-socket.js';
import { ControlBlock, type Direction } from '../../encap/forwarding/control-block.js';
import { Counters, readDrops, readTotals } from '../../encap/forwarding/counters.js';
import { PeerTable } from '../../encap/forwarding/forwarding-table.js';
import { type Layout, PEER_CAPACITY, planLayout, SENDER_NODES, SUBNET_NODES } from '../../encap/forwarding/layout.js';
import { PrefixTable } from '../../encap/forwarding/prefix-table.js';
import { errnoName } from '../../linux/errno.js';
import { control } from '../../linux/libc.js';
import { SharedMemory } from '../../linux/memory.js';
import { deviceTotals } from '../../routes/device-statistics.js';
import { ensureLink, type WantedLink } from '../../routes/links.js';
import type { Lease, LeaseAttributes, PeerChange } from '../../subnet/lease.js';
import { openTun, type Switch, type TunDevice, withoutLinkLocal } from '../../tun/device.js';
import type { Backend, BackendContext, BackendStatus } from '../backend.js';
import { removeFormerDevices, removeFormerRoutes } from '../kernel/former-life.js';
import { hostKernel } from '../kernel/kernel.js';
import { refusalOf } from '../kernel/kernel-peers.js';
import { featuresOf } from './features.js';
import { Forwarders, forwarderThreads } from './forwarders.js';
import { maxSegments, segmentedSendDoubt } from './kernel-quirks.js';
import { probeMergedWrite } from './merge-probe.js';
import type { UdpBackendOptions } from './options.js';

/** Outer IPv4 and UDP headers. */
const OVERHEAD = 28;
const DEFAULT_PORT = 8285;
/** The prefix tables start at this; senders may have any address. */
const ANYWHERE: Prefix = { address: 0, length: 0 };
const ICMP_PER_SECOND = 100;
const ICMP_BURST = 50;
/** How often the control thread looks whether a forwarder had to turn something off. */
const WATCH_MS = 1000;

/** Everything that exists between `start` and `stop`. */
interface Running {
  readonly lease: Lease;
  readonly link: WantedLink;
  readonly tun: TunDevice;
  readonly socket: UdpSocket;
  readonly memory: SharedMemory;
  readonly control: ControlBlock;
  readonly peers: PeerTable;
  readonly txCounters: Counters;
  readonly rxCounters: Counters;
  readonly forwarders: Forwarders;
  readonly threads: 1 | 2;
  readonly watch: NodeJS.Timeout;
}

export class UdpBackend implements Backend {
  readonly type = 'udp';
  readonly mtu: number;
  readonly failed: Promise<Error>;
  readonly #context: BackendContext;
  readonly #options: UdpBackendOptions;
  readonly #port: number;
  #fail: (error: Error) => void = () => {};
  #running: Running | null = null;
  readonly #reported = new Set<string>();

  constructor(context: BackendContext, options: UdpBackendOptions) {
    this.#context = context;
    this.#options = options;
    this.#port = readPort(context.config.backend.options.port);
    this.mtu = context.underlay.mtu - OVERHEAD;
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
  }

  async attributes(): Promise<LeaseAttributes> {
    return { publicIp: this.#context.publicIp, publicIpv6: null };
  }

  async start(lease: Lease): Promise<void> {
    const { config, underlay } = this.#context;
    const { offloads, deviceName } = this.#options;
    const undo: (() => void)[] = [];
    try {
      const tun = openTun(deviceName, { tso: offloads.tunTso, uso: offloads.tunUso });
      undo.push(() => control.close(tun.fd));
      withoutLinkLocal(deviceName);
      // before addresses and routes: where another daemon has the port, it keeps those too
      const socket = openUdpSocket({
        address: underlay.address,
        port: this.#port,
        gso: this.#gsoSwitch(),
        gro: offloads.udpGro,
        buffer: this.#options.socketBuffer,
      });
      undo.push(() => control.close(socket.fd));
      const link: WantedLink = {
        name: deviceName,
        mtu: this.mtu,
        txQueueLength: this.#options.txQueueLength,
        address: { address: lease.subnet.address, length: 32 },
        networks: [config.network],
        routes: [{ destination: config.network }],
      };
      await ensureLink(link);
      await this.#removeFormerLife();

      const layout = planLayout(config.network);
      const memory = SharedMemory.create(layout.bytes);
      const controlBlock = new ControlBlock(memory.i32, layout.control);
      const merging = this.#probeMerging(memory, layout, tun, controlBlock, lease);
      const options = this.#forwarderOptions(layout, lease, tun, socket, merging);
      const threads = forwarderThreads(this.#options.forwarderThreads, os.availableParallelism());
      const forwarders = await Forwarders.start(memory, controlBlock, options, threads, (directions, error) =>
        this.#forwarderEnded(directions, error, controlBlock),
      );
      const words = memory.i32;
      this.#running = {
        lease,
        link,
        tun,
        socket,
        memory,
        control: controlBlock,
        peers: new PeerTable(
          memory,
          layout.peers,
          PEER_CAPACITY,
          this.#port,
          new PrefixTable(words, layout.subnets >>> 2, SUBNET_NODES, config.network),
          new PrefixTable(words, layout.senders >>> 2, SENDER_NODES, ANYWHERE),
        ),
        txCounters: new Counters(memory.f64, layout.txCounters),
        rxCounters: new Counters(memory.f64, layout.rxCounters),
        forwarders,
        threads,
        watch: setInterval(() => this.#watch(), WATCH_MS).unref(),
      };
      this.#watch();
    } catch (error) {
      for (const step of undo.reverse()) step();
      throw error;
    }
  }

  /** A route to a peer that another backend left behind would win over ours for the whole network. */
  async #removeFormerLife(): Promise<void> {
    const { config, underlay, log, formerNetworks = [] } = this.#context;
    const networks = [config.network, ...formerNetworks];
    const ownership = { networks, ownDevice: null, underlay: underlay.name, subnetLength: config.subnetLength };
    for (const line of await removeFormerDevices(ownership, hostKernel)) log.info(line);
    for (const line of await removeFormerRoutes(ownership, hostKernel)) log.info(line);
  }

  #gsoSwitch(): Switch {
    const wanted = this.#options.offloads.udpGso;
    return wanted === 'auto' && segmentedSendDoubt(os.release()) !== '' ? 'off' : wanted;
  }

  /** Which kinds of merged packets the TUN takes. */
  #probeMerging(
    memory: SharedMemory,
    layout: Layout,
    tun: TunDevice,
    controlBlock: ControlBlock,
    lease: Lease,
  ): { readonly tcp: boolean; readonly udp: boolean } {
    if (!tun.tso) return { tcp: false, udp: false };
    const errno = probeMergedWrite(memory, layout.rx, tun.fd, lease.subnet.address);
    if (errno === 0) return { tcp: true, udp: tun.uso };
    controlBlock.turnOff('merge_tcp', errno);
    controlBlock.turnOff('merge_udp', errno);
    return { tcp: false, udp: false };
  }

  #forwarderOptions(
    layout: Layout,
    lease: Lease,
    tun: TunDevice,
    socket: UdpSocket,
    merging: { readonly tcp: boolean; readonly udp: boolean },
  ): ForwarderOptions {
    const { network } = this.#context.config;
    return {
      layout,
      tun: tun.fd,
      socket: socket.fd,
      vnetHeader: tun.vnetHeader,
      network: network.address,
      networkMask: netmask(network.length),
      subnet: lease.subnet.address,
      subnetMask: netmask(lease.subnet.length),
      port: this.#port,
      encapsulationOverhead: OVERHEAD,
      maxSegments: socket.gso ? maxSegments(os.release()) : 1,
      receiveSlots: this.#options.offloads.udpBatch === 'off' ? 1 : MAX_RECEIVE_SLOTS,
      mergeTcp: merging.tcp,
      mergeUdp: merging.udp,
      checkSenders: this.#options.checkSenders,
      icmpSource: icmpSource(network, lease.subnet),
      overlayAddress: lease.subnet.address,
      icmpPerSecond: ICMP_PER_SECOND,
      icmpBurst: ICMP_BURST,
    };
  }

  #forwarderEnded(served: readonly Direction[], error: Error | null, block: ControlBlock): void {
    const failed = served.filter((direction) => block.failed(direction) !== 0);
    const why = error === null ? failed.map((one) => errnoName(block.failed(one))).join(', ') : messageOf(error);
    this.#fail(
      new TweedError(
        'FORWARDER_FAILED',
        `the ${(error === null ? failed : served).join(' and ')} forwarder stopped (${why}); was ${this.#options.deviceName} removed? restart the daemon`,
      ),
    );
  }

  /** Tells once of each thing that is not as it was wanted, be it from the start or turned off by a forwarder. */
  #watch(): void {
    const running = this.#running;
    if (running === null) return;
    for (const { name, wanted, inForce, reason } of featuresOf(this.#options, running)) {
      if (reason === '' || this.#reported.has(`${name}: ${reason}`)) continue;
      this.#reported.add(`${name}: ${reason}`);
      this.#context.log.warn({ feature: name, wanted, inForce }, `${name} is ${inForce}: ${reason}`);
    }
  }

  async applyPeers(changes: readonly PeerChange[]): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    for (const change of changes) {
      const { subnet, attributes } = change.lease;
      const refusal =
        change.kind === 'removed' ? '' : refusalOf(change.lease, this.type, this.#context, running.lease.subnet);
      if (refusal !== '') {
        this.#context.log.warn({ subnet: formatPrefix(subnet) }, refusal);
        running.peers.delete(subnet);
        continue;
      }
      try {
        if (change.kind === 'removed') running.peers.delete(subnet);
        else running.peers.set(subnet, attributes.publicIp);
      } catch (error) {
        this.#context.log.error({ subnet: formatPrefix(subnet) }, `peer not applied: ${messageOf(error)}`);
      }
    }
  }

  async reconcile(): Promise<readonly string[]> {
    return this.#running === null ? [] : ensureLink(this.#running.link);
  }

  status(): BackendStatus {
    const running = this.#running;
    const base = { type: this.type, device: this.#options.deviceName, mtu: this.mtu };
    if (running === null) return { ...base, peers: [], features: [], totals: {}, drops: {} };
    const { txCounters, rxCounters } = running;
    return {
      ...base,
      peers: [...running.peers.entries()].map(({ subnet, publicIp, ...counters }) => ({
        subnet: formatPrefix(subnet),
        publicIp: formatIpv4(publicIp),
        ...counters,
      })),
      features: featuresOf(this.#options, running),
      totals: readTotals(txCounters, rxCounters),
      drops: {
        ...readDrops(txCounters, rxCounters),
        tx_tun_queue_full: deviceTotals(this.#options.deviceName, hostKernel.readStatistics('dev')).txDrops,
        rx_socket_queue_full: receiveQueueDrops(running.socket.fd),
      },
    };
  }

  /** The device goes with its descriptor, so there is never anything left to clean up. */
  async stop(_options: { readonly cleanUp: boolean }): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    this.#running = null;
    clearInterval(running.watch);
    await running.forwarders.stop();
    for (const fd of [running.tun.fd, running.socket.fd]) control.close(fd);
  }
}

/**
 * Where ICMP errors to local containers come from. The kernel drops a packet from the device whose source is an address
 * of this host, or one that it would not reach through the device (rp_filter). So it is the first address of the whole
 * overlay network, which no container has; the last one on the host that leased the first subnet.
 */
function icmpSource(network: Prefix, subnet: Prefix): number {
  return contains(subnet, network.address) ? network.address + prefixSize(network.length) - 1 : network.address;
}

/** `Backend.Port` of the network configuration. @throws TweedError */
export function readPort(value: unknown): number {
  if (value === undefined || value === null) return DEFAULT_PORT;
  if (typeof value === 'number' && Number.isInteger(value) && value > 0 && value < 65_536) return value;
  throw new TweedError(
    'CONFIG_INVALID',
    `Backend.Port of the network config is ${JSON.stringify(value)}; give a number from 1 to 65535`,
  );
}
