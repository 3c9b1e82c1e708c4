/**
 * The engine in this process: the `udp` backend's data plane, whose datagrams are sealed by the forwarders themselves, and
 * `SessionControl` beside them.
 *
 * Device and socket can be another process's before and after this one. Sessions belong to one process at a time, since whoever
 * has their keys must count what was sent and received under them. So of two processes with one socket only one may read it:
 * one that takes the other's place gets everything ready, and begins when the other has ended. What comes in between waits in
 * the queues of device and socket. The other leaves its sessions in a vessel, as they are when its forwarders have ended; where
 * there is none, every peer is greeted, and what peers sent under the old sessions until then is lost.
 */
import os from 'node:os';
import { abortable } from '../../base/abortable.js';
import { type AnyPrefix, formatAnyPrefix } from '../../base/address.js';
import { messageOf, TweedError } from '../../base/errors.js';
import { Standing } from '../../base/standing.js';
import { DataPlane, TICK_MS } from '../../encap/datapath/data-plane.js';
import type { SealingOptions } from '../../encap/datapath/options.js';
import { forwarderThreads } from '../../encap/datapath/threads.js';
import { receiveQueueDrops } from '../../encap/datapath/udp-socket.js';
import type { Direction } from '../../encap/forwarding/control-block.js';
import { readDrops, readTotals } from '../../encap/forwarding/counters.js';
import { CAPACITY, type Layout, type OverlayNetworks, planLayout } from '../../encap/forwarding/layout.js';
import { errnoName } from '../../linux/errno.js';
import { Inheritance } from '../../linux/inheritance.js';
import { control as libc } from '../../linux/libc.js';
import { RegionAllocator } from '../../linux/memory.js';
import { opensslMissing } from '../../linux/openssl.js';
import { deviceTotals } from '../../routes/device-statistics.js';
import { ensureLink, readLink, type WantedLink } from '../../routes/links.js';
import { halvesOf } from '../../subnet/lease.js';
import type { Now } from '../../wireguard/device-context.js';
import { formatEndpoint } from '../../wireguard/endpoint.js';
import { formatKey, type PrivateKey } from '../../wireguard/keys.js';
import { OPEN_DROPS, readTransportDrops, SEAL_DROPS } from '../../wireguard/transport-drops.js';
import { planTransport } from '../../wireguard/transport-layout.js';
import type { UserApiDevice } from '../../wireguard/user-api.js';
import { type BackendContext, type FeatureStatus, type PeerStatus, peerNames } from '../backend.js';
import { hostKernel } from '../kernel/kernel.js';
import { Descriptors, TUN_V6 } from '../udp/descriptors.js';
import { featuresOf } from '../udp/features.js';
import { forwarderOptions } from '../udp/forwarder-options.js';
import { segmentedSendDoubt } from '../udp/kernel-quirks.js';
import type { UdpBackendOptions } from '../udp/options.js';
import { probeMerging } from '../udp/udp-backend.js';
import type { DevicePlan } from './devices.js';
import {
  type Engine,
  type EngineContext,
  type EnginePeers,
  type EngineRefusals,
  type EngineStatus,
  wantedLink,
} from './engine.js';
import { WIREGUARD_DEVICE_V6 } from './options.js';
import type { WireguardPeer } from './peers.js';
import { SessionControl } from './session-control.js';
import { leaveSessions, takeSessions } from './session-vessel.js';
import { UserApiServer } from './user-api-server.js';

/**
 * Most peers. Each has eight sessions of 1,280 bytes; of the address space that this takes, some 84 MB, only what is used
 * is ever touched.
 */
const PEERS = 8_192;
/** By what name the next process finds the sessions of a device. */
const SESSIONS = 'sessions';
/** Of a second device, for IPv6. */
const SESSIONS_V6 = 'sessions6';
/** For the control thread's own sealer, which makes one empty message at a time. */
const CONTROL_BYTES = 1 << 20;

export interface UserEngineOptions {
  readonly backend: BackendContext;
  readonly context: EngineContext;
  /** This host's addresses on the underlay that datagrams may come from. */
  readonly local: DevicePlan['local'];
  /** Zeroed at the end. */
  readonly privateKey: PrivateKey;
  readonly udp: UdpBackendOptions;
  readonly socketDirectory: string;
  /** Peers may have sessions with a former life of this host. */
  readonly hasPast: boolean;
  readonly clock?: (() => Now) | undefined;
}

/** Everything that exists between `start` and `stop`. */
interface Running {
  readonly link: WantedLink;
  readonly descriptors: Descriptors;
  readonly plane: DataPlane;
  readonly sealing: SealingOptions;
  readonly sessions: SessionControl;
  readonly threads: 1 | 2;
  readonly watch: NodeJS.Timeout;
  /** Settles when the forwarders run, or have failed to. */
  readonly begun: Promise<unknown>;
}

export class UserEngine implements Engine {
  readonly name = 'user';
  readonly failed: Promise<Error>;
  readonly #options: UserEngineOptions;
  readonly #device: string;
  readonly #features: Standing;
  #fail: (error: Error) => void = () => {};
  #running: Running | null = null;
  #userApi: UserApiServer | null = null;
  /** By public key. */
  #peers: ReadonlyMap<string, WireguardPeer> = new Map();
  readonly #ending = new AbortController();

  constructor(options: UserEngineOptions) {
    this.#options = options;
    this.#device = options.context.device;
    this.#features = new Standing(options.backend.log);
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
  }

  async start(subnets: OverlayNetworks, { peers, complete }: EnginePeers): Promise<EngineRefusals> {
    const { backend, context, udp, privateKey, clock } = this.#options;
    const { networks } = context;
    const { inherited = new Inheritance() } = backend;
    await removeKernelDevice(this.#device);
    const descriptors = await openDescriptors(this.#options, inherited);
    if (descriptors.missing !== '')
      backend.log.warn(`no datagrams of ${this.#device} go by IPv6: ${descriptors.missing}`);
    let sessions: SessionControl | null = null;
    try {
      const { layout, sealing, regions } = planMemory(networks, context.mtu);
      const { ipv4, ipv6 } = descriptors;
      const plane = new DataPlane(networks, context.port, layout, { ipv4: ipv4 !== null, ipv6: ipv6 !== null });
      sessions = new SessionControl({
        plane,
        sealing,
        regions,
        sockets: { ipv4: ipv4?.fd ?? -1, ipv6: ipv6?.fd ?? -1 },
        privateKey,
        context,
        clock,
        waits: true,
      });
      const refused = this.#setPeers(sessions, peers);
      plane.control.peersComplete = complete;
      const link = wantedLink(context, subnets, udp.txQueueLength);
      // whatever is usual for new devices
      if (networks.ipv6 !== null) await hostKernel.setSwitch(`net/ipv6/conf/${this.#device}/disable_ipv6`, '0');
      await ensureLink(link);
      const options = forwarderOptions({
        layout,
        descriptors,
        networks,
        subnets,
        port: context.port,
        mtu: context.mtu,
        mayBeUnfinished: false, // what is sealed was finished by then
        checkSenders: false, // the tag says who sent a datagram, wherever it came from
        batch: udp.offloads.udpBatch !== 'off',
        merging: probeMerging(plane, descriptors, subnets.ipv4?.address ?? 0),
      });
      const threads = forwarderThreads(udp.forwarderThreads, os.availableParallelism());
      const control = sessions;
      const left = inherited.take(this.#vessel);
      const owned = abortable(inherited.owned(), this.#ending.signal)
        .then(() => left !== null && takeSessions(control, left, this.#device, backend.log))
        .finally(() => left !== null && libc.close(left));
      const begun = plane
        .start(
          owned.then(() => ({ ...options, sealing })),
          {
            threads,
            onEnd: (directions, error) => this.#forwarderEnded(directions, error, plane),
            onCall: () => control.called(),
          },
        )
        .then(() => this.#begin(control));
      const watch = setInterval(() => this.#watch(), TICK_MS).unref();
      const running = { link, descriptors, plane, sealing, sessions, threads, watch, begun: begun.catch(() => {}) };
      this.#running = running;
      // the other process ends when we say that we are ready
      if (inherited.shared) begun.catch((error: Error) => this.#ending.signal.aborted || this.#fail(error));
      else await begun;
      this.#watch();
      return refused;
    } catch (error) {
      clearInterval(this.#running?.watch);
      this.#running = null;
      sessions?.close();
      descriptors.leave();
      throw error;
    }
  }

  get #vessel(): string {
    return this.#device === WIREGUARD_DEVICE_V6 ? SESSIONS_V6 : SESSIONS;
  }

  async #begin(sessions: SessionControl): Promise<void> {
    if (this.#ending.signal.aborted) return;
    sessions.begin(this.#options.hasPast);
    this.#userApi = await this.#serveUserApi(sessions);
  }

  /** The overlay does without it. */
  async #serveUserApi(sessions: SessionControl): Promise<UserApiServer | null> {
    const { socketDirectory, backend } = this.#options;
    try {
      return await UserApiServer.open(socketDirectory, this.#device, () => this.#describe(sessions));
    } catch (error) {
      backend.log.warn(`"wg show" will not see ${this.#device}: ${messageOf(error)}`);
      return null;
    }
  }

  #describe(sessions: SessionControl): UserApiDevice {
    const subnets = new Map<number, readonly AnyPrefix[]>();
    const { table } = this.#running?.plane ?? {};
    for (const peer of table?.entries() ?? []) subnets.set(peer.number, halvesOf(peer));
    const peers = [...sessions.device.peers()].map((peer) => ({
      ...peer,
      allowedIps: (subnets.get(peer.number) ?? []).map(formatAnyPrefix),
    }));
    return { privateKey: sessions.device.privateKey, listenPort: this.#options.context.port, peers };
  }

  #forwarderEnded(served: readonly Direction[], error: Error | null, { control }: DataPlane): void {
    const failed = served.filter((direction) => control.failed(direction) !== 0);
    const why = error === null ? failed.map((one) => errnoName(control.failed(one))).join(', ') : messageOf(error);
    const which = (error === null ? failed : served).join(' and ');
    const advice = `was ${this.#device} removed? restart the daemon`;
    this.#fail(new TweedError('FORWARDER_FAILED', `the ${which} forwarder stopped (${why}); ${advice}`));
  }

  #watch(): void {
    const running = this.#running;
    if (running === null) return;
    running.plane.tick();
    const unwanted = this.#featuresOf(running).filter(({ reason }) => reason !== '');
    this.#features.update(
      new Map(unwanted.map(({ name, inForce, reason }) => [name, `${name} is ${inForce}: ${reason}`])),
      'feature',
    );
  }

  #featuresOf(running: Running): FeatureStatus[] {
    const missing = opensslMissing();
    const cipher = { name: 'cipher', wanted: 'openssl', inForce: missing === null ? 'openssl' : 'node:crypto' };
    return [{ ...cipher, reason: missing ?? '' }, ...featuresOf(this.#options.udp, running)];
  }

  stuckFor(): number {
    return this.#running?.plane.stuckFor ?? 0;
  }

  async setPeers({ peers, complete }: EnginePeers): ReturnType<Engine['setPeers']> {
    const running = this.#running;
    if (running === null) return { mended: [], refused: new Map() };
    const refused = this.#setPeers(running.sessions, peers);
    running.plane.control.peersComplete = complete;
    return { mended: await ensureLink(running.link), refused };
  }

  #setPeers(sessions: SessionControl, peers: readonly WireguardPeer[]): EngineRefusals {
    this.#peers = new Map(peers.map((peer) => [peer.name, peer]));
    return sessions.setPeers(peers);
  }

  status(): EngineStatus {
    const running = this.#running;
    if (running === null) return { peers: new Map(), features: [], totals: {}, drops: {} };
    const { plane, sealing, sessions, descriptors } = running;
    const { counters, memory } = plane;
    const { no_key: withoutKey, ...sealDrops } = readTransportDrops(
      memory.f64,
      sealing.layout.sealDrops,
      SEAL_DROPS,
    ) as Record<(typeof SEAL_DROPS)[number], number>;
    const openDrops = readTransportDrops(memory.f64, sealing.layout.openDrops, OPEN_DROPS);
    const handshakes = sessions.counted();
    return {
      peers: this.#peerStatuses(running),
      features: this.#featuresOf(running),
      totals: {
        ...readTotals(counters.tx, counters.rx),
        tx_without_session: withoutKey,
        ...handshakes.totals,
      },
      drops: {
        ...readDrops(counters.tx, counters.rx),
        ...prefixed('tx', sealDrops),
        ...prefixed('rx', openDrops),
        ...handshakes.drops,
        tx_tun_queue_full: deviceTotals(this.#device, hostKernel.readStatistics('dev')).txDrops,
        rx_socket_queue_full: descriptors.sockets.reduce((sum, { fd }) => sum + receiveQueueDrops(fd), 0),
      },
    };
  }

  #peerStatuses({ plane: { table }, sessions }: Running): EngineStatus['peers'] {
    const counted = new Map([...table.entries()].map((entry) => [entry.number, entry]));
    const statuses = new Map<string, PeerStatus>();
    for (const { number, publicKey, endpoint, lastHandshake } of sessions.statuses().values()) {
      const name = formatKey(publicKey);
      const [peer, entry] = [this.#peers.get(name), counted.get(number)];
      if (peer === undefined || entry === undefined) continue;
      const { subnet, subnetV6, txPackets, txBytes, rxPackets, rxBytes, lastReceived } = entry;
      statuses.set(name, {
        ...peerNames({ subnet, subnetV6, attributes: peer }),
        txPackets,
        txBytes,
        rxPackets,
        rxBytes,
        lastReceived,
        endpoint: endpoint === undefined ? null : formatEndpoint(endpoint),
        lastHandshake: lastHandshake === 0 ? null : lastHandshake,
      });
    }
    return statuses;
  }

  descriptors(): ReadonlyMap<string, number> {
    return this.#running?.descriptors.byName ?? new Map();
  }

  vessels(): readonly string[] {
    return this.#running === null ? [] : [this.#vessel];
  }

  async stop(heir?: Inheritance, vessels?: Inheritance): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    this.#running = null;
    this.#ending.abort();
    clearInterval(running.watch);
    await running.begun;
    this.#userApi?.close();
    await running.plane.stop();
    const vessel = vessels?.take(this.#vessel) ?? null;
    if (vessel === null) running.sessions.close();
    else leaveSessions(running.sessions, vessel, this.#device, this.#options.backend.log);
    running.descriptors.leave(heir);
  }
}

/** The forwarding layout, and behind it what WireGuard needs. */
function planMemory(
  networks: OverlayNetworks,
  mtu: number,
): { readonly layout: Layout; readonly sealing: SealingOptions; readonly regions: RegionAllocator } {
  const plain = planLayout(networks, { ...CAPACITY, peers: PEERS });
  const all = new RegionAllocator(plain.bytes);
  const transport = planTransport(all, PEERS);
  const own = all.take(CONTROL_BYTES, 4096);
  const layout = { ...plain, bytes: all.used };
  return { layout, sealing: { layout: transport, mtu }, regions: new RegionAllocator(own, own + CONTROL_BYTES) };
}

function openDescriptors(
  { backend, context, local, udp }: UserEngineOptions,
  inherited: Inheritance,
): Promise<Descriptors> {
  const { offloads, socketBuffer } = udp;
  const wanted = {
    device: context.device,
    ...(context.device === WIREGUARD_DEVICE_V6 && { deviceKey: TUN_V6 }),
    tso: offloads.tunTso,
    uso: offloads.tunUso,
    address: local.ipv4,
    addressV6: local.ipv6,
    port: context.port,
    gso: offloads.udpGso === 'auto' && segmentedSendDoubt() !== '' ? 'off' : offloads.udpGso,
    gro: offloads.udpGro,
    buffer: socketBuffer,
    ecn: true,
  };
  return Descriptors.inherit(wanted, {
    inherited,
    removeDevice: (name) => hostKernel.ip.run('link', 'del', name),
    note: (text) => backend.log.info(text),
  });
}

/** What a daemon that crashed, or flanneld, left behind would keep its name. */
async function removeKernelDevice(name: string): Promise<void> {
  const present = await readLink(name, hostKernel.ip);
  if (present?.kind === 'wireguard') await hostKernel.ip.run('link', 'del', name);
}

function prefixed(prefix: string, counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).map(([name, count]) => [`${prefix}_${name}`, count]));
}
