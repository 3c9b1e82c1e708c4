/**
 * One family's VXLAN device with all it knows of the peers. The backend has one for each family that it carries: the two
 * have nothing in common but the options.
 */

import path from 'node:path';
import { formatAddress, formatAnyPrefix, hostPrefix } from '../../base/address.js';
import { replaceFile } from '../../base/atomic-file.js';
import type { Logger } from '../../base/log.js';
import { Standing } from '../../base/standing.js';
import { readTextFile } from '../../base/text-file.js';
import { applyChanges } from '../../routes/changes.js';
import { type DeviceTotals, deviceTotals } from '../../routes/device-statistics.js';
import { readLink } from '../../routes/links.js';
import { offLinkReason, readReach } from '../../routes/on-link.js';
import {
  deletion,
  isOurs,
  type Leftovers,
  ROUTE_PROTOCOL,
  readNetworkRoutes,
  routeDifference,
  type WantedRoute,
} from '../../routes/route-table.js';
import type { Lease } from '../../subnet/lease.js';
import { removeFormerDevices } from '../kernel/former-life.js';
import { type Half, peerHalves } from '../kernel/halves.js';
import type { Kernel } from '../kernel/kernel.js';
import { type Announcement, readAnnouncement } from './announcement.js';
import { ensureVtep, incompatibility, type WantedVtep } from './device.js';
import { isStationMac, parseMac, randomMac } from './mac.js';
import { type VxlanOptions, vxlanDevice } from './options.js';
import {
  type ForwardingJson,
  forwardingChanges,
  type NeighbourJson,
  neighbourChanges,
  neighbourMacs,
  settleClaims,
  type TunnelPeer,
} from './peer-entries.js';

export interface VtepContext {
  readonly half: Half;
  readonly options: VxlanOptions;
  /** Name of the interface that carries its datagrams. */
  readonly underlay: string;
  /** Where the MAC is kept, for when the device is gone. */
  readonly runDirectory: string;
  readonly log: Logger;
  readonly kernel: Kernel;
}

/** What one look at the kernel led to. */
export interface VtepSettlement {
  /** By subject: why something is not as it should be. */
  readonly troubles: ReadonlyMap<string, string>;
  /** Everything that was wanted for the peers. */
  readonly wanted: unknown;
  /** One line of text for each change that was made for them. */
  readonly done: readonly string[];
  /** One line of text for each thing besides. */
  readonly mended: readonly string[];
  /** It is a new device, which had to be told all its peers. */
  readonly made: string | null;
}

export class Vtep {
  readonly name: string;
  readonly half: Half;
  readonly #context: VtepContext;
  readonly #kernel: Kernel;
  readonly #plan: Omit<WantedVtep, 'mac' | 'addresses'>;
  readonly #macFile: string;
  readonly #files: Standing;
  #mac: string | null = null;
  /** What the file holds. */
  #keptMac = '';
  /** Null when it is not running. */
  #device: WantedVtep | null = null;
  /** MACs that this process made forwarding entries for. */
  #entryMacs: ReadonlySet<string> = new Set();

  constructor(context: VtepContext) {
    const { half, options, underlay, runDirectory, kernel, log } = context;
    this.name = vxlanDevice(options, half.family);
    this.half = half;
    this.#context = context;
    this.#kernel = kernel;
    this.#files = new Standing(log);
    this.#plan = {
      name: this.name,
      vni: options.vni,
      underlay,
      local: half.local,
      port: options.port,
      gbp: options.gbp,
      learning: options.learning,
      mtu: half.mtu,
      networks: half.ownership.former.networks,
    };
    this.#macFile = path.join(runDirectory, `${this.name}.mac`);
  }

  /** What this host says of the device. */
  async announcement(): Promise<Announcement> {
    this.#mac ??= await this.#formerMac();
    return { VNI: this.#context.options.vni, VtepMAC: this.#mac };
  }

  /** The MAC that peers may know already: that of the device, or of the device that was there; else a new one. */
  async #formerMac(): Promise<string> {
    const present = await readLink(this.name, this.#kernel.ip);
    const ofDevice = present?.kind === 'vxlan' ? parseMac(present.hardwareAddress) : null;
    const known = ofDevice ?? parseMac((await readTextFile(this.#macFile).catch(() => '')).trim());
    return known !== null && isStationMac(known) ? known : randomMac();
  }

  /**
   * From now on `sync` makes the device.
   *
   * @returns what takes it away again when it was not there before
   */
  async begin(lease: Lease): Promise<() => Promise<void>> {
    const { ip } = this.#kernel;
    const { half, options } = this.#context;
    const subnet = half.family === 4 ? lease.subnet : lease.subnetV6;
    if (subnet === null) return async () => {};
    // Without `announcement` before, this is a lease that goes on: peers know the MAC that stands in it.
    const { backendData, backendV6Data } = lease.attributes;
    const announced = readAnnouncement(half.family === 4 ? backendData : backendV6Data, options.vni);
    const mac = this.#mac ?? ('mac' in announced ? announced.mac : await this.#formerMac());
    this.#mac = mac;
    const device = { ...this.#plan, mac, addresses: [hostPrefix(subnet.address)] };
    const before = await readLink(device.name, ip);
    this.#device = device;
    return async () => {
      this.#device = null;
      const isNew = before === null || (before.kind === 'vxlan' && incompatibility(before, device) !== '');
      if (isNew) await ip.run('link', 'del', device.name).catch(() => {}); // it may never have come to be
    };
  }

  /** For the next device after this one. What cannot be written now is tried again with the next check. */
  async #keepMac(mac: string): Promise<void> {
    if (this.#keptMac === mac) return;
    const kept = await this.#files.attempt(`keeping the MAC address in ${this.#macFile}`, () =>
      replaceFile(this.#macFile, `${mac}\n`),
    );
    if (kept) this.#keptMac = mac;
  }

  /** Makes the device and all it knows of the peers what it is to be, whatever it is now. Null when it is not to be. */
  async sync(leases: readonly Lease[], leftovers: Leftovers): Promise<VtepSettlement | null> {
    const device = this.#device;
    if (device === null) return null;
    const { ip, bridge } = this.#kernel;
    const { family, ownership: both } = this.half;
    const { made, done: lines } = await ensureVtep(device, this.#kernel);
    const ownership = leftovers === 'any' ? both.former : both.today;
    const removed = leftovers === 'any' ? await removeFormerDevices(ownership, this.#kernel) : [];
    const troubles = new Map<string, string>();
    const { tunnelled, direct } = await this.#sortPeers(leases, device.mac, troubles);
    const { networks } = ownership;
    const [routes, neighbours, entries] = await Promise.all([
      readNetworkRoutes(networks, ip),
      ip.json<NeighbourJson[]>(`-${family}`, 'neigh', 'show', 'dev', device.name, 'nud', 'permanent'),
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
    return {
      troubles,
      wanted: [tunnelled, direct].map((list) => list.map(asText)),
      done: [...first.done, ...second.done],
      mended: [...lines, ...removed],
      made: made && tunnelled.length > 0 ? `gave ${device.name} its ${tunnelled.length} peers` : null,
    };
  }

  /** Which peers are reached through the tunnel, which by plain routes; `troubles` gets those that cannot be reached. */
  async #sortPeers(
    leases: readonly Lease[],
    ownMac: string,
    troubles: Map<string, string>,
  ): Promise<{ readonly tunnelled: readonly TunnelPeer[]; readonly direct: readonly WantedRoute[] }> {
    const { options, underlay } = this.#context;
    const candidates: TunnelPeer[] = [];
    for (const { subnet, publicIp, data } of peerHalves(leases, this.half.family, troubles)) {
      const announced = readAnnouncement(data, options.vni);
      if ('refusal' in announced) troubles.set(formatAnyPrefix(subnet), announced.refusal);
      else if (announced.mac === ownMac) {
        troubles.set(formatAnyPrefix(subnet), 'its VtepMAC is this host’s own, from an earlier lease or a copy');
      } else candidates.push({ subnet, publicIp, mac: announced.mac });
    }
    const reach = options.directRouting
      ? await readReach([...new Set(candidates.map(({ publicIp }) => publicIp))], this.#kernel.ip)
      : null;
    const isDirect = ({ publicIp }: TunnelPeer) =>
      reach !== null && offLinkReason(reach.get(publicIp), publicIp, underlay) === '';
    const { peers, refused } = settleClaims(candidates.filter((peer) => !isDirect(peer)));
    for (const [subnet, text] of refused) troubles.set(subnet, text);
    const direct = candidates
      .filter(isDirect)
      .map(({ subnet, publicIp }) => peerRoute({ destination: subnet, gateway: publicIp, device: underlay }));
    return { tunnelled: peers, direct };
  }

  get totals(): DeviceTotals {
    return deviceTotals(this.name, this.#kernel.readStatistics('dev'));
  }

  async stop({ cleanUp }: { readonly cleanUp: boolean }): Promise<void> {
    const device = this.#device;
    if (device === null) return;
    this.#device = null;
    if (!cleanUp) return;
    const { ip } = this.#kernel;
    const { today } = this.half.ownership;
    const routes = await readNetworkRoutes(today.networks, ip);
    const direct = routes.filter((route) => route.device !== device.name && isOurs(route, today));
    const changes = [
      ...direct.map((route) => ({ subject: formatAnyPrefix(route.destination), command: deletion(route), text: '' })),
      { subject: device.name, command: `link del ${device.name}`, text: '' },
    ];
    for (const [subject, text] of (await applyChanges(changes, ip)).failed) {
      this.#context.log.warn({ subject }, `not cleaned up: ${text}`);
    }
  }
}

/** Numbers beyond 2^53 have no JSON. */
function asText(wanted: TunnelPeer | WantedRoute): string {
  return 'subnet' in wanted
    ? `${formatAnyPrefix(wanted.subnet)} ${formatAddress(wanted.publicIp)} ${wanted.mac}`
    : `${formatAnyPrefix(wanted.destination)} ${wanted.gateway === undefined ? '' : formatAddress(wanted.gateway)}`;
}

/** The gateway is the first address of the peer's own subnet, as flannel's: it is nobody else's, and the neighbour entry tells its MAC. */
function tunnelRoute({ subnet }: TunnelPeer, device: string): WantedRoute {
  return peerRoute({ destination: subnet, gateway: subnet.address, onlink: true, device });
}

function peerRoute(route: WantedRoute): WantedRoute {
  return { ...route, protocol: ROUTE_PROTOCOL };
}
