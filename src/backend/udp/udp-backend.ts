/**
 * The `udp` backend: inner packets in UDP datagrams, carried by one forwarder thread or two.
 *
 * This is their control side, and policy only: `Descriptors` are the device and the socket, `DataPlane` the shared memory
 * with the forwarding table and the threads. It is never on a packet's way: it may block for as long as it likes.
 */
import os from 'node:os';
import { hostPrefix } from '../../base/address.js';
import { messageOf, TweedError } from '../../base/errors.js';
import { exec } from '../../base/exec.js';
import { formatIpv4, formatPrefix } from '../../base/ipv4.js';
import { Standing } from '../../base/standing.js';
import { DataPlane, TICK_MS } from '../../encap/datapath/data-plane.js';
import { forwarderThreads } from '../../encap/datapath/threads.js';
import { receiveQueueDrops } from '../../encap/datapath/udp-socket.js';
import type { Direction } from '../../encap/forwarding/control-block.js';
import { readDrops, readTotals } from '../../encap/forwarding/counters.js';
import type { Peer, PeerCounters } from '../../encap/forwarding/forwarding-table.js';
import type { KernelPeerCounters } from '../../kernel-path/table.js';
import { readLinkFacts } from '../../kernel-path/underlay-device.js';
import { errnoText } from '../../linux/errno.js';
import { Inheritance } from '../../linux/inheritance.js';
import { deviceTotals } from '../../routes/device-statistics.js';
import { ipTool } from '../../routes/ip.js';
import { ensureLink, type WantedLink } from '../../routes/links.js';
import { hasIpv4, type Lease, type LeaseAttributes, type PeerSet } from '../../subnet/lease.js';
import {
  type Backend,
  type BackendContext,
  type BackendStatus,
  ipv4Network,
  ipv4Subnet,
  type PeerStatus,
  type StopOptions,
} from '../backend.js';
import { ownershipOf, removeFormerDevices, removeFormerRoutes } from '../kernel/former-life.js';
import { hostKernel } from '../kernel/kernel.js';
import { Descriptors } from './descriptors.js';
import { featuresOf } from './features.js';
import { forwarderOptions } from './forwarder-options.js';
import { KernelPathKeeper } from './kernel-path-keeper.js';
import { segmentedSendDoubt } from './kernel-quirks.js';
import { unfinishedData } from './lease-data.js';
import { probeMergedWrite } from './merge-probe.js';
import type { UdpBackendOptions } from './options.js';
import { readUdpPort, UDP_OVERHEAD } from './wire.js';

/** Everything that exists between `start` and `stop`. */
interface Running {
  readonly link: WantedLink;
  readonly descriptors: Descriptors;
  readonly plane: DataPlane;
  readonly threads: 1 | 2;
  readonly watch: NodeJS.Timeout;
  readonly kernelPath: KernelPathKeeper;
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
  /** What is not as it was wanted. */
  readonly #features: Standing;

  constructor(context: BackendContext, options: UdpBackendOptions) {
    this.#context = context;
    this.#options = options;
    this.#port = readUdpPort(context.config.backend.options);
    this.#features = new Standing(context.log);
    this.mtu = context.underlay.mtu - UDP_OVERHEAD;
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
  }

  async attributes(): Promise<LeaseAttributes> {
    const { kernelPath, offloads } = this.#options;
    // that takes a TUN with offloads
    const unfinished = kernelPath !== 'off' && offloads.tunTso !== 'off';
    return { publicIp: this.#context.publicIp, publicIpv6: null, ...(unfinished && { backendData: unfinishedData }) };
  }

  async start(lease: Lease, peers: PeerSet): Promise<void> {
    const { config, underlay, inherited = new Inheritance(), log } = this.#context;
    const { deviceName: device, offloads, socketBuffer, txQueueLength, checkSenders } = this.#options;
    const wanted = {
      device,
      tso: offloads.tunTso,
      uso: offloads.tunUso,
      address: underlay.address,
      port: this.#port,
      gso: offloads.udpGso === 'auto' && segmentedSendDoubt() !== '' ? 'off' : offloads.udpGso,
      gro: offloads.udpGro,
      buffer: socketBuffer,
    };
    const descriptors = await Descriptors.inherit(wanted, {
      inherited,
      removeDevice: (name) => hostKernel.ip.run('link', 'del', name),
      note: (text) => log.info(text),
    });
    if (descriptors.tun.adopted) {
      this.#context.log.info({ device }, 'took over a device that nobody held; it goes when the daemon does');
    }
    try {
      const { network } = ipv4Network(config);
      const subnet = ipv4Subnet(lease);
      const plane = new DataPlane(network, this.#port);
      this.#fill(plane, peers);
      const link: WantedLink = {
        name: device,
        mtu: this.mtu,
        txQueueLength,
        addresses: [hostPrefix(subnet.address)],
        networks: [network],
        routes: [{ destination: network }],
      };
      const options = Promise.all([finishesPackets(underlay.name), this.#setUp(link)]).then(([finishes]) =>
        forwarderOptions({
          layout: plane.layout,
          descriptors,
          network,
          subnet,
          port: this.#port,
          mtu: this.mtu,
          mayBeUnfinished: !finishes,
          checkSenders,
          batch: offloads.udpBatch !== 'off',
          merging: probeMerging(plane, descriptors, subnet.address),
        }),
      );
      const threads = forwarderThreads(this.#options.forwarderThreads, os.availableParallelism());
      await plane.start(options, threads, (directions, error) => this.#forwarderEnded(directions, error, plane));
      const watch = setInterval(() => this.#watch(), TICK_MS).unref();
      const kernelPath = await this.#kernelPath(lease, peers);
      this.#running = { link, descriptors, plane, threads, watch, kernelPath };
      this.#watch();
    } catch (error) {
      descriptors.leave();
      throw error;
    }
  }

  /** Device and routes. Each program that is started costs milliseconds, so those that only look do it side by side. */
  async #setUp(link: WantedLink): Promise<void> {
    const linkReady = ensureLink(link).then(
      () => true,
      () => false,
    );
    await this.#removeFormerLife();
    if (!(await linkReady)) await ensureLink(link); // what was in the way may be gone now
  }

  /** A route to a peer that another backend left behind would win over ours for the whole network. */
  async #removeFormerLife(): Promise<void> {
    const { former } = ownershipOf(this.#context, null);
    const lines = [removeFormerDevices(former, hostKernel), removeFormerRoutes(former, hostKernel)];
    for (const line of (await Promise.all(lines)).flat()) this.#context.log.info(line);
  }

  #forwarderEnded(served: readonly Direction[], error: Error | null, { control }: DataPlane): void {
    const failed = served.filter((direction) => control.failed(direction) !== 0);
    const why = error === null ? failed.map((one) => errnoText(control.failed(one))).join(', ') : messageOf(error);
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
    running.plane.tick();
    const unwanted = featuresOf(this.#options, running).filter(({ reason }) => reason !== '');
    this.#features.update(
      new Map(unwanted.map(({ name, inForce, reason }) => [name, `${name} is ${inForce}: ${reason}`])),
      'feature',
    );
  }

  stuckFor(): number {
    return this.#running?.plane.stuckFor ?? 0;
  }

  async setPeers(peers: PeerSet): Promise<readonly string[]> {
    if (this.#running === null) return [];
    this.#fill(this.#running.plane, peers);
    const { link, kernelPath } = this.#running;
    const lines = await ensureLink(link);
    return [...lines, ...(await kernelPath.keep(peers.leases))];
  }

  /** Comes last: it shortens the way of packets that have one already. */
  async #kernelPath(lease: Lease, { leases }: PeerSet): Promise<KernelPathKeeper> {
    const { log, config, underlay } = this.#context;
    const { kernelPath: wanted, checkSenders, deviceName: name } = this.#options;
    const tun = { name, index: wanted === 'off' ? 0 : await interfaceIndex(name).catch(() => 0) };
    const { network } = ipv4Network(config);
    const path = { underlay, tun, network, subnet: ipv4Subnet(lease), port: this.#port };
    const keeper = new KernelPathKeeper({ wanted, checkSenders, log, path, underlayMtu: underlay.mtu });
    await keeper.keep(leases);
    return keeper;
  }

  #fill({ table, control }: DataPlane, { leases, complete }: PeerSet): void {
    table.replaceAll(
      leases.filter(hasIpv4).map(({ subnet, attributes }) => ({ subnet, publicIp: attributes.publicIp })),
    );
    control.peersComplete = complete;
  }

  status(): BackendStatus {
    const running = this.#running;
    const base = { type: this.type, device: this.#options.deviceName, mtu: this.mtu };
    if (running === null) return { ...base, peers: [], refused: [], features: [], totals: {}, drops: {} };
    const { table, counters } = running.plane;
    const { kernelPath } = running;
    const counted = kernelPath.counted();
    const byKernel = new Map(kernelPath.peers().map((peer) => [formatPrefix(peer.subnet), peer]));
    return {
      ...base,
      peers: [...table.entries()].map((peer) => peerStatus(peer, byKernel.get(formatPrefix(peer.subnet)))),
      refused: table.refused.map(({ subnet, publicIp, reason }) => ({
        subnet: formatPrefix(subnet),
        publicIp: formatIpv4(publicIp),
        reason,
      })),
      features: featuresOf(this.#options, running),
      totals: plus(readTotals(counters.tx, counters.rx), counted.totals),
      drops: {
        ...plus(readDrops(counters.tx, counters.rx), counted.drops),
        tx_tun_queue_full: deviceTotals(this.#options.deviceName, hostKernel.readStatistics('dev')).txDrops,
        rx_socket_queue_full: receiveQueueDrops(running.descriptors.socket.fd),
      },
    };
  }

  descriptors(): ReadonlyMap<string, number> {
    return this.#running?.descriptors.byName ?? new Map();
  }

  /** The device goes with its last descriptor, so there is never anything left to clean up. */
  async stop({ heir }: StopOptions): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    this.#running = null;
    clearInterval(running.watch);
    await running.kernelPath.stop();
    await running.plane.stop();
    running.descriptors.leave(heir);
  }
}

/** What both ways have counted of a peer. */
function peerStatus(
  { subnet, publicIp, ...counted }: PeerCounters & Peer,
  byKernel: KernelPeerCounters | undefined,
): PeerStatus {
  const { txPackets = 0, txBytes = 0, rxPackets = 0, rxBytes = 0, silentForMs = null } = byKernel ?? {};
  const heard = [counted.lastReceived, silentForMs === null ? null : Math.round(Date.now() - silentForMs)];
  const latest = Math.max(...heard.map((time) => time ?? 0));
  return {
    subnet: formatPrefix(subnet),
    subnetV6: null,
    publicIp: formatIpv4(publicIp),
    publicIpv6: null,
    txPackets: counted.txPackets + txPackets,
    txBytes: counted.txBytes + txBytes,
    rxPackets: counted.rxPackets + rxPackets,
    rxBytes: counted.rxBytes + rxBytes,
    lastReceived: latest === 0 ? null : latest,
  };
}

/** Adds up what has the same name. */
function plus(these: Record<string, number>, those: Readonly<Record<string, number>>): Record<string, number> {
  for (const [name, value] of Object.entries(those)) these[name] = (these[name] ?? 0) + value;
  return these;
}

/** Whether the underlay finishes packets, see kernel-path/underlay-device.ts; where it cannot be asked, as if it did. */
async function finishesPackets(name: string): Promise<boolean> {
  try {
    return (await readLinkFacts(name, (argv) => exec(argv))).finishesPackets;
  } catch {
    return true;
  }
}

async function interfaceIndex(name: string): Promise<number> {
  const [link] = await ipTool().json<{ readonly ifindex: number }[]>('link', 'show', 'dev', name);
  return link?.ifindex ?? 0;
}

/** Which kinds of merged packets the TUN takes. @param address the device's own, host order */
export function probeMerging({ memory, layout, control }: DataPlane, { tun }: Descriptors, address: number) {
  if (!tun.tso) return { tcp: false, udp: false };
  const errno = probeMergedWrite(memory, layout.rx, tun.fd, address);
  if (errno === 0) return { tcp: true, udp: tun.uso };
  control.turnOff('merge_tcp', errno, true);
  control.turnOff('merge_udp', errno, true);
  return { tcp: false, udp: false };
}
