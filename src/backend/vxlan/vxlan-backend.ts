/**
 * The `vxlan` backend: the kernel's VXLAN device, with a route, a neighbour and a forwarding entry for every peer.
 *
 * The kernel does the forwarding, also while no daemon runs. This compares what it knows with what the peers announced,
 * and writes the difference, in a few processes however many peers there are.
 */

import path from 'node:path';
import { formatAnyPrefix, hostPrefix } from '../../base/address.js';
import { replaceFile } from '../../base/atomic-file.js';
import { formatPrefix } from '../../base/ipv4.js';
import { Standing } from '../../base/standing.js';
import { readTextFile } from '../../base/text-file.js';
import { applyChanges } from '../../routes/changes.js';
import { countsOf, deviceTotals, udpTotals } from '../../routes/device-statistics.js';
import { readLink } from '../../routes/links.js';
import { offLinkReason, readReach } from '../../routes/on-link.js';
import {
  deletion,
  isOurs,
  ROUTE_PROTOCOL,
  readNetworkRoutes,
  routeDifference,
  type WantedRoute,
} from '../../routes/route-table.js';
import { hasIpv4, type Lease, type LeaseAttributes, type PeerSet } from '../../subnet/lease.js';
import { type Backend, type BackendContext, type BackendStatus, type FeatureStatus, ipv4Subnet } from '../backend.js';
import { type Ownership, ownershipOf, removeFormerDevices } from '../kernel/former-life.js';
import { hostKernel, type Kernel } from '../kernel/kernel.js';
import { KernelPeers } from '../kernel/kernel-peers.js';
import { type Announcement, readAnnouncement } from './announcement.js';
import { ensureVtep, incompatibility, type WantedVtep } from './device.js';
import { isStationMac, parseMac, randomMac } from './mac.js';
import { readVxlanOptions, VXLAN_OVERHEAD, type VxlanOptions, vxlanDevice } from './options.js';
import {
  type ForwardingJson,
  forwardingChanges,
  type NeighbourJson,
  neighbourChanges,
  neighbourMacs,
  settleClaims,
  type TunnelPeer,
} from './peer-entries.js';

export class VxlanBackend implements Backend {
  readonly type = 'vxlan';
  readonly mtu: number;
  /** The kernel forwards, and nothing of ours can fail for good. */
  readonly failed = new Promise<Error>(() => {});
  readonly #context: BackendContext;
  readonly #kernel: Kernel;
  readonly #options: VxlanOptions;
  readonly #plan: Omit<WantedVtep, 'mac' | 'addresses'>;
  readonly #macFile: string;
  readonly #ownership: Ownership;
  readonly #peers: KernelPeers;
  readonly #files: Standing;
  #mac: string | null = null;
  /** What the file holds. */
  #keptMac = '';
  /** Null when it is not running. */
  #device: WantedVtep | null = null;
  /** MACs that this process made forwarding entries for. */
  #entryMacs: ReadonlySet<string> = new Set();

  /**
   * @param runDirectory where the MAC is kept, for when the device is gone
   * @throws ConfigError when an option of the network configuration is wrong
   */
  constructor(context: BackendContext, runDirectory: string, kernel: Kernel = hostKernel) {
    const { underlay, config, log } = context;
    const { options, unknown } = readVxlanOptions(config.backend.options);
    for (const name of unknown) log.warn(`vxlan knows no option "${name}"; ignored`);
    let underlayMtu = options.underlayMtu ?? underlay.mtu;
    if (underlayMtu > underlay.mtu) {
      log.warn(`Backend.MTU ${underlayMtu} is more than ${underlay.name} carries; using its ${underlay.mtu}`);
      underlayMtu = underlay.mtu;
    }
    const name = vxlanDevice(options);
    this.#ownership = ownershipOf(context, name);
    this.#context = context;
    this.#kernel = kernel;
    this.#files = new Standing(log);
    this.#peers = new KernelPeers(log);
    this.#options = options;
    this.mtu = underlayMtu - VXLAN_OVERHEAD;
    this.#plan = {
      name,
      vni: options.vni,
      underlay: underlay.name,
      local: underlay.address,
      port: options.port,
      gbp: options.gbp,
      learning: options.learning,
      mtu: this.mtu,
      networks: this.#ownership.former.networks,
    };
    this.#macFile = path.join(runDirectory, `${name}.mac`);
  }

  async attributes(): Promise<LeaseAttributes> {
    this.#mac ??= await this.#formerMac();
    const data: Announcement = { VNI: this.#options.vni, VtepMAC: this.#mac };
    return { publicIp: this.#context.publicIp, publicIpv6: null, backendType: this.type, backendData: data };
  }

  /** The MAC that peers may know already: that of the device, or of the device that was there; else a new one. */
  async #formerMac(): Promise<string> {
    const present = await readLink(this.#plan.name, this.#kernel.ip);
    const ofDevice = present?.kind === 'vxlan' ? parseMac(present.hardwareAddress) : null;
    const known = ofDevice ?? parseMac((await readTextFile(this.#macFile).catch(() => '')).trim());
    return known !== null && isStationMac(known) ? known : randomMac();
  }

  async start(lease: Lease, peers: PeerSet): Promise<void> {
    const { log } = this.#context;
    const { ip } = this.#kernel;
    // Without `attributes` before, this is a lease that goes on: peers know the MAC that stands in it.
    const announced = readAnnouncement(lease.attributes.backendData, this.#options.vni);
    const mac = this.#mac ?? ('mac' in announced ? announced.mac : await this.#formerMac());
    this.#mac = mac;
    const device = { ...this.#plan, mac, addresses: [hostPrefix(ipv4Subnet(lease).address)] };
    const before = await readLink(device.name, ip);
    this.#device = device;
    try {
      for (const line of await this.setPeers(peers)) log.info(line);
    } catch (error) {
      this.#device = null;
      const isNew = before === null || (before.kind === 'vxlan' && incompatibility(before, device) !== '');
      if (isNew) await ip.run('link', 'del', device.name).catch(() => {}); // it may never have come to be
      throw error;
    }
  }

  /** For the next device after this one. What cannot be written now is tried again with the next check. */
  async #keepMac(mac: string): Promise<void> {
    if (this.#keptMac === mac) return;
    const kept = await this.#files.attempt(`keeping the MAC address in ${this.#macFile}`, () =>
      replaceFile(this.#macFile, `${mac}\n`),
    );
    if (kept) this.#keptMac = mac;
  }

  /** Makes the device and all it knows of the peers what it is to be, whatever it is now. */
  async setPeers(peers: PeerSet): Promise<readonly string[]> {
    const device = this.#device;
    if (device === null) return [];
    const { ip, bridge } = this.#kernel;
    const leftovers = this.#peers.leftovers(peers);
    const { made, done: lines } = await ensureVtep(device, ip);
    const ownership = leftovers === 'any' ? this.#ownership.former : this.#ownership.today;
    const removed = leftovers === 'any' ? await removeFormerDevices(ownership, this.#kernel) : [];
    const troubles = new Map<string, string>();
    const { tunnelled, direct } = await this.#sortPeers(peers.leases, device.mac, troubles);
    const { networks } = ownership;
    const [routes, neighbours, entries] = await Promise.all([
      readNetworkRoutes(networks, ip),
      ip.json<NeighbourJson[]>('-4', 'neigh', 'show', 'dev', device.name, 'nud', 'permanent'),
      bridge.json<ForwardingJson[]>('fdb', 'show', 'dev', device.name),
    ]);
    const known = new Set([...this.#entryMacs, ...neighbourMacs(neighbours, networks)]);
    const stale = leftovers === 'none' ? new Set<string>() : known;
    const neighbourWork = neighbourChanges(device.name, tunnelled, neighbours, networks);
    const wanted = [...tunnelled.map((peer) => tunnelRoute(peer, device.name)), ...direct];
    const routeWork = routeDifference(wanted, routes, ownership, leftovers);
    const former = leftovers === 'none' ? [] : neighbourWork.remove;
    // The route last: by then everything that a packet on it needs is there.
    const first = await applyChanges(forwardingChanges(device.name, tunnelled, entries, stale), bridge);
    const second = await applyChanges([...neighbourWork.set, ...routeWork.changes, ...former], ip);
    for (const [subject, text] of [...routeWork.obstacles, ...first.failed, ...second.failed]) {
      troubles.set(subject, text);
    }
    await this.#keepMac(device.mac);
    const macs = tunnelled.map(({ mac }) => mac);
    this.#entryMacs = new Set(first.failed.size > 0 || leftovers === 'none' ? [...known, ...macs] : macs);
    const done = [...first.done, ...second.done];
    const mended = this.#peers.settle(peers, { troubles, wanted: JSON.stringify([tunnelled, direct]), done });
    const given = made && tunnelled.length > 0 ? [`gave ${device.name} its ${tunnelled.length} peers`] : mended;
    return [...lines, ...removed, ...given];
  }

  /** Which peers are reached through the tunnel, which by plain routes; `troubles` gets those that cannot be reached. */
  async #sortPeers(
    leases: readonly Lease[],
    ownMac: string,
    troubles: Map<string, string>,
  ): Promise<{ readonly tunnelled: readonly TunnelPeer[]; readonly direct: readonly WantedRoute[] }> {
    const candidates: TunnelPeer[] = [];
    for (const { subnet, attributes } of leases.filter(hasIpv4)) {
      const announced = readAnnouncement(attributes.backendData, this.#options.vni);
      if ('refusal' in announced) troubles.set(formatPrefix(subnet), announced.refusal);
      else if (announced.mac === ownMac) {
        troubles.set(formatPrefix(subnet), 'its VtepMAC is this host’s own, from an earlier lease or a copy');
      } else candidates.push({ subnet, publicIp: attributes.publicIp, mac: announced.mac });
    }
    const { name } = this.#context.underlay;
    const reach = this.#options.directRouting
      ? await readReach([...new Set(candidates.map(({ publicIp }) => publicIp))], this.#kernel.ip)
      : null;
    const isDirect = ({ publicIp }: TunnelPeer) =>
      reach !== null && offLinkReason(reach.get(publicIp), publicIp, name) === '';
    const { peers, refused } = settleClaims(candidates.filter((peer) => !isDirect(peer)));
    for (const [subnet, text] of refused) troubles.set(subnet, text);
    const direct = candidates
      .filter(isDirect)
      .map(({ subnet, publicIp }) => peerRoute({ destination: subnet, gateway: publicIp, device: name }));
    return { tunnelled: peers, direct };
  }

  status(): BackendStatus {
    const { name } = this.#plan;
    const { totals, drops } = countsOf(deviceTotals(name, this.#kernel.readStatistics('dev')));
    return {
      type: this.type,
      device: name,
      mtu: this.mtu,
      peers: this.#peers.reached,
      refused: this.#peers.refused,
      features: this.#features(),
      totals,
      drops: {
        ...drops,
        // Of the whole host. VXLAN over some network cards sends wrong ones: docs/backends.md
        host_udp_checksum: udpTotals(this.#kernel.readStatistics('snmp')).checksumErrors,
      },
    };
  }

  #features(): FeatureStatus[] {
    const { learning, gbp, directRouting } = this.#options;
    const flags = { learning, gbp, direct_routing: directRouting };
    return Object.entries(flags).map(([name, on]) => {
      const state = on ? 'on' : 'off';
      return { name, wanted: state, inForce: state, reason: '' };
    });
  }

  async stop({ cleanUp }: { readonly cleanUp: boolean }): Promise<void> {
    const device = this.#device;
    if (device === null) return;
    this.#device = null;
    if (!cleanUp) return;
    const { ip } = this.#kernel;
    const routes = await readNetworkRoutes(this.#ownership.today.networks, ip);
    const direct = routes.filter((route) => route.device !== device.name && isOurs(route, this.#ownership.today));
    const changes = [
      ...direct.map((route) => ({ subject: formatAnyPrefix(route.destination), command: deletion(route), text: '' })),
      { subject: device.name, command: `link del ${device.name}`, text: '' },
    ];
    for (const [subject, text] of (await applyChanges(changes, ip)).failed) {
      this.#context.log.warn({ subject }, `not cleaned up: ${text}`);
    }
  }
}

/** The gateway is the first address of the peer's own subnet, as flannel's: it is nobody else's, and the neighbour entry tells its MAC. */
function tunnelRoute({ subnet }: TunnelPeer, device: string): WantedRoute {
  return peerRoute({ destination: subnet, gateway: subnet.address, onlink: true, device });
}

function peerRoute(route: WantedRoute): WantedRoute {
  return { ...route, protocol: ROUTE_PROTOCOL };
}
