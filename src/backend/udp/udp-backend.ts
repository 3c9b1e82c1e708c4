/**
 * The `udp` backend: inner packets in UDP datagrams, carried by one forwarder thread or two.
 *
 * This is their control side, and policy only: `Descriptors` are the device and the socket, `DataPlane` the shared memory
 * with the forwarding table and the threads. It is never on a packet's way: it may block for as long as it likes.
 */
import os from 'node:os';
import { type AnyPrefix, type Family, formatAnyPrefix, hostPrefix } from '../../base/address.js';
import { messageOf, TweedError } from '../../base/errors.js';
import { Standing } from '../../base/standing.js';
import { DataPlane, TICK_MS } from '../../encap/datapath/data-plane.js';
import { forwarderThreads } from '../../encap/datapath/threads.js';
import { receiveQueueDrops } from '../../encap/datapath/udp-socket.js';
import type { Direction } from '../../encap/forwarding/control-block.js';
import { readDrops, readTotals } from '../../encap/forwarding/counters.js';
import { type PeerEntry, peerName, type UnderlayFamilies } from '../../encap/forwarding/forwarding-table.js';
import { type OverlayNetworks, planLayout } from '../../encap/forwarding/layout.js';
import { ANYWHERE } from '../../encap/forwarding/prefix-table.js';
import { FormerPath, type PathPlace } from '../../kernel-path/former-path.js';
import type { KernelPeerCounters } from '../../kernel-path/table.js';
import { type LinkDetails, linkFacts } from '../../kernel-path/underlay-device.js';
import { errnoText } from '../../linux/errno.js';
import { Inheritance } from '../../linux/inheritance.js';
import { deviceTotals } from '../../routes/device-statistics.js';
import { type IpTool, ipTool, joiningIpTool } from '../../routes/ip.js';
import { ensureLink, type WantedLink } from '../../routes/links.js';
import { type Lease, type LeaseAttributes, type PeerSet, publicName } from '../../subnet/lease.js';
import {
  type Backend,
  type BackendContext,
  type BackendStatus,
  type PeerStatus,
  peerNames,
  type StopOptions,
  type Underlay,
} from '../backend.js';
import { ownershipOf, removeFormerDevices, removeFormerRoutes } from '../kernel/former-life.js';
import { obstacleOnDevice } from '../kernel/ipv6-obstacle.js';
import { hostKernel } from '../kernel/kernel.js';
import { Descriptors } from './descriptors.js';
import { featuresOf } from './features.js';
import { forwarderOptions } from './forwarder-options.js';
import { KernelPathKeeper } from './kernel-path-keeper.js';
import { segmentedSendDoubt } from './kernel-quirks.js';
import { unfinishedData } from './lease-data.js';
import { probeMergedWrite } from './merge-probe.js';
import type { KernelPathWish, UdpBackendOptions } from './options.js';
import { readUdpPort, UDP_OVERHEAD, UDP_OVERHEAD_V6 } from './wire.js';

/** Where a kernel path is to be. */
interface WantedPath extends PathPlace {
  readonly wanted: KernelPathWish;
  readonly underlay: Underlay;
}

/** Everything that exists between `start` and `stop`. */
interface Running {
  readonly link: WantedLink;
  readonly networks: OverlayNetworks;
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
  readonly #notCarried = new Map<Family, string>();
  readonly #context: BackendContext;
  readonly #options: UdpBackendOptions;
  readonly #port: number;
  /** The families that datagrams may travel by. */
  readonly #underlay: UnderlayFamilies;
  #fail: (error: Error) => void = () => {};
  #running: Running | null = null;
  /** What is not as it was wanted. */
  readonly #features: Standing;

  constructor(context: BackendContext, options: UdpBackendOptions) {
    this.#context = context;
    this.#options = options;
    this.#port = readUdpPort(context.config.backend.options);
    this.#features = new Standing(context.log);
    const { config, underlay } = context;
    this.#underlay = { ipv4: underlay.address !== 0, ipv6: config.ipv6 !== null && underlay.ipv6 !== null };
    if (!this.#underlay.ipv4 && !this.#underlay.ipv6) {
      throw new TweedError(
        'NO_ADDRESS_OF_FAMILY',
        `${underlay.name} has no address for datagrams; give it an IPv4 one`,
      );
    }
    this.mtu = underlay.mtu - (this.#underlay.ipv6 ? UDP_OVERHEAD_V6 : UDP_OVERHEAD);
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
  }

  get notCarried(): ReadonlyMap<Family, string> {
    return this.#notCarried;
  }

  async attributes(): Promise<LeaseAttributes> {
    const { kernelPath, offloads } = this.#options;
    // that takes a TUN with offloads
    const unfinished = kernelPath !== 'off' && offloads.tunTso !== 'off';
    const { publicIp, publicIpv6 } = this.#context;
    return {
      publicIp,
      publicIpv6: this.#underlay.ipv6 ? publicIpv6 : null,
      ...(unfinished && { backendData: unfinishedData }),
    };
  }

  async start(lease: Lease, peers: PeerSet): Promise<void> {
    const { underlay, inherited = new Inheritance(), log } = this.#context;
    const { deviceName: device, offloads, socketBuffer, txQueueLength, checkSenders } = this.#options;
    const wanted = {
      device,
      tso: offloads.tunTso,
      uso: offloads.tunUso,
      address: this.#underlay.ipv4 ? underlay.address : null,
      addressV6: this.#underlay.ipv6 ? (underlay.ipv6?.address ?? null) : null,
      port: this.#port,
      gso: offloads.udpGso === 'auto' && segmentedSendDoubt() !== '' ? 'off' : offloads.udpGso,
      gro: offloads.udpGro,
      buffer: socketBuffer,
    };
    const note = (text: string) => log.info(text);
    const descriptors = await Descriptors.inherit(wanted, {
      inherited,
      removeDevice: (name) => hostKernel.ip.run('link', 'del', name),
      note,
    });
    if (descriptors.tun.adopted) {
      this.#context.log.info({ device }, 'took over a device that nobody held; it goes when the daemon does');
    }
    if (descriptors.missing !== '') log.warn(`no datagrams go by IPv6: ${descriptors.missing}`);
    const path = this.#pathPlace(lease);
    const fits = descriptors.sameDevice && path.wanted !== 'off';
    const former = await FormerPath.inherit(inherited, fits ? path : null, note);
    try {
      const { networks, subnets } = await this.#carried(lease);
      const families = { ipv4: descriptors.ipv4 !== null, ipv6: descriptors.ipv6 !== null };
      const plane = new DataPlane(networks, this.#port, planLayout(networks), families);
      this.#fill(plane, networks, peers);
      const link: WantedLink = {
        name: device,
        mtu: this.mtu,
        txQueueLength,
        addresses: present(subnets).map(({ address }) => hostPrefix(address)),
        networks: present(networks),
        routes: present(networks).map((destination) => ({ destination })),
      };
      const ip = joiningIpTool();
      const options = Promise.all([finishesPackets(underlay.name, ip), this.#setUp(link, ip)]).then(([finishes]) =>
        forwarderOptions({
          layout: plane.layout,
          descriptors,
          networks,
          subnets,
          port: this.#port,
          mtu: this.mtu,
          mayBeUnfinished: !finishes,
          checkSenders,
          batch: offloads.udpBatch !== 'off',
          merging: probeMerging(plane, descriptors, subnets.ipv4?.address ?? 0),
        }),
      );
      options.catch(() => {}); // whether anybody waits for them at that moment or not
      await undefined; // so that `ip` is at work while the threads are made
      const threads = forwarderThreads(this.#options.forwarderThreads, os.availableParallelism());
      await plane.start(options, {
        threads,
        rehearsal: {
          vnetHeader: descriptors.tun.vnetHeader,
          overlay: { ipv4: networks.ipv4 !== null, ipv6: networks.ipv6 !== null },
          underlay: families,
        },
        onEnd: (directions, error) => this.#forwarderEnded(directions, error, plane),
      });
      const watch = setInterval(() => this.#watch(), TICK_MS).unref();
      // what another process works with yet is that one's to end
      const ours = descriptors.sameDevice && !inherited.shared ? former : null;
      const kernelPath = await this.#kernelPath(path, peers, ours, !inherited.shared);
      this.#running = { link, networks, descriptors, plane, threads, watch, kernelPath };
      this.#watch();
    } catch (error) {
      await former.end();
      descriptors.leave();
      throw error;
    }
  }

  /**
   * What the overlay carries here: of the families that the network and the lease have, those that the device can have. What
   * keeps it from IPv6 takes nothing from IPv4.
   */
  async #carried({ subnet, subnetV6 }: Lease): Promise<{ networks: OverlayNetworks; subnets: OverlayNetworks }> {
    const { config, log } = this.#context;
    const ipv4 = config.ipv4 === null || subnet === null ? null : config.ipv4.network;
    let ipv6 = config.ipv6 === null || subnetV6 === null ? null : config.ipv6.network;
    const obstacle = ipv6 === null ? '' : await obstacleOnDevice(this.#options.deviceName, this.mtu, hostKernel);
    if (ipv6 !== null && obstacle !== '') {
      const text = `${formatAnyPrefix(ipv6)} is not carried, since ${obstacle}`;
      if (ipv4 === null) throw new TweedError('NO_IPV6', text);
      log.warn(text);
      this.#notCarried.set(6, text);
      ipv6 = null;
    }
    const networks = { ipv4, ipv6 };
    return { networks, subnets: { ipv4: ipv4 && subnet, ipv6: ipv6 && subnetV6 } };
  }

  /** Device and routes. Each program that is started costs milliseconds, so those that only look do it together. */
  async #setUp(link: WantedLink, ip: IpTool): Promise<void> {
    const linkReady = ensureLink(link, ip).then(
      () => true,
      () => false,
    );
    await this.#removeFormerLife(ip);
    if (!(await linkReady)) await ensureLink(link); // what was in the way may be gone now
  }

  /** A route to a peer that another backend left behind would win over ours for the whole network. */
  async #removeFormerLife(ip: IpTool): Promise<void> {
    const { config } = this.#context;
    const families = [...(config.ipv4 === null ? [] : [4 as const]), ...(config.ipv6 === null ? [] : [6 as const])];
    const lines = families.flatMap((family) => {
      const { former } = ownershipOf(this.#context, null, family);
      return [removeFormerDevices(former, { ip }), removeFormerRoutes(former, { ip })];
    });
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
    const { link, networks, plane, kernelPath } = this.#running;
    this.#fill(plane, networks, peers);
    const lines = await ensureLink(link);
    return [...lines, ...(await kernelPath.keep(byIpv4(peers.leases)))];
  }

  /** Where a kernel path is to be, and of what kind. It carries IPv4 by IPv4; everything else comes to user space anyway. */
  #pathPlace({ subnet }: Lease): WantedPath {
    const { config, underlay } = this.#context;
    const possible = config.ipv4 !== null && subnet !== null && this.#underlay.ipv4;
    return {
      wanted: possible ? this.#options.kernelPath : 'off',
      underlay,
      network: config.ipv4?.network ?? ANYWHERE,
      subnet: subnet ?? ANYWHERE,
      port: this.#port,
    };
  }

  /** Comes last: it shortens the way of packets that have one already. */
  async #kernelPath(
    { wanted, underlay, network, subnet, port }: WantedPath,
    { leases }: PeerSet,
    former: FormerPath | null,
    sole: boolean,
  ): Promise<KernelPathKeeper> {
    const { log } = this.#context;
    const { checkSenders, deviceName: name, kernelPathMerge: merge } = this.#options;
    const tun = { name, index: wanted === 'off' ? 0 : await interfaceIndex(name).catch(() => 0) };
    const path = { underlay, tun, network, subnet, port, merge };
    const keeper = new KernelPathKeeper({ wanted, checkSenders, log, path, underlayMtu: underlay.mtu, former, sole });
    await keeper.keep(byIpv4(leases));
    return keeper;
  }

  #fill({ table, control }: DataPlane, { ipv4, ipv6 }: OverlayNetworks, { leases, complete }: PeerSet): void {
    table.replaceAll(
      leases
        .map(({ subnet, subnetV6, attributes: { publicIp, publicIpv6 } }) => ({
          subnet: ipv4 && subnet,
          subnetV6: ipv6 && subnetV6,
          publicIp,
          publicIpv6,
        }))
        .filter(({ subnet, subnetV6 }) => subnet !== null || subnetV6 !== null),
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
    const byKernel = new Map(kernelPath.peers().map((peer) => [peerName(peer), peer]));
    return {
      ...base,
      peers: [...table.entries()].map((peer) => peerStatus(peer, byKernel.get(peerName(peer)))),
      refused: table.refused.map((peer) => ({
        subnet: peerName(peer),
        publicIp: publicName({ publicIpv6: null, ...peer }),
        reason: peer.reason,
      })),
      features: featuresOf(this.#options, running),
      totals: plus(readTotals(counters.tx, counters.rx), counted.totals),
      drops: {
        ...plus(readDrops(counters.tx, counters.rx), counted.drops),
        tx_tun_queue_full: deviceTotals(this.#options.deviceName, hostKernel.readStatistics('dev')).txDrops,
        rx_socket_queue_full: running.descriptors.sockets.reduce((sum, { fd }) => sum + receiveQueueDrops(fd), 0),
      },
    };
  }

  descriptors(): ReadonlyMap<string, number> {
    return this.#running?.descriptors.byName ?? new Map();
  }

  holds(): ReadonlyMap<string, number> {
    return this.#running?.kernelPath.holds() ?? new Map();
  }

  /** The device goes with its last descriptor, so there is never anything left to clean up. */
  async stop({ heir, pinned }: StopOptions): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    this.#running = null;
    clearInterval(running.watch);
    await running.kernelPath.stop(pinned);
    await running.plane.stop();
    running.descriptors.leave(heir);
  }
}

/** Those that the kernel path can reach. */
function byIpv4(leases: readonly Lease[]): readonly Lease[] {
  return leases.filter(({ subnet, attributes }) => subnet !== null && attributes.publicIp !== 0);
}

function present({ ipv4, ipv6 }: OverlayNetworks): AnyPrefix[] {
  return [ipv4, ipv6].filter((network) => network !== null);
}

/** What both ways have counted of a peer. */
function peerStatus(counted: PeerEntry, byKernel: KernelPeerCounters | undefined): PeerStatus {
  const { txPackets = 0, txBytes = 0, rxPackets = 0, rxBytes = 0, silentForMs = null } = byKernel ?? {};
  const heard = [counted.lastReceived, silentForMs === null ? null : Math.round(Date.now() - silentForMs)];
  const latest = Math.max(...heard.map((time) => time ?? 0));
  return {
    ...peerNames({ ...counted, attributes: counted }),
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
async function finishesPackets(name: string, ip: IpTool): Promise<boolean> {
  try {
    const [link] = await ip.json<LinkDetails[]>('-details', 'address', 'show', 'dev', name);
    return linkFacts(link).finishesPackets;
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
