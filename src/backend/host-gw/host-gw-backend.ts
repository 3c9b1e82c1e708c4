/**
 * The `host-gw` backend: no tunnel. Every peer's subnet is routed to the peer itself, which therefore has to be on the same
 * link, and packets keep their size.
 */

import { type Family, formatAddress, formatAnyPrefix } from '../../base/address.js';
import { TweedError } from '../../base/errors.js';
import { applyChanges } from '../../routes/changes.js';
import { countsOf, deviceTotals } from '../../routes/device-statistics.js';
import { offLinkReason, readReach } from '../../routes/on-link.js';
import {
  deletion,
  isOurs,
  ROUTE_PROTOCOL,
  readNetworkRoutes,
  routeDifference,
  type WantedRoute,
} from '../../routes/route-table.js';
import type { Lease, LeaseAttributes, PeerSet } from '../../subnet/lease.js';
import type { Backend, BackendContext, BackendStatus } from '../backend.js';
import { removeFormerDevices } from '../kernel/former-life.js';
import { type Half, halvesFor, peerHalves } from '../kernel/halves.js';
import { hostKernel, type Kernel } from '../kernel/kernel.js';
import { KernelPeers } from '../kernel/kernel-peers.js';

export class HostGwBackend implements Backend {
  readonly type = 'host-gw';
  readonly mtu: number;
  readonly notCarried: ReadonlyMap<Family, string>;
  /** The kernel forwards, and nothing of ours can fail for good. */
  readonly failed = new Promise<Error>(() => {});
  readonly #context: BackendContext;
  readonly #kernel: Kernel;
  readonly #halves: readonly Half[];
  readonly #peers: KernelPeers;
  #running = false;

  /** @throws TweedError when peers could not route to this host */
  constructor(context: BackendContext, kernel: Kernel = hostKernel) {
    const { underlay, log } = context;
    this.mtu = underlay.mtu;
    const { halves, notCarried } = halvesFor(context, () => ({ device: null, mtu: underlay.mtu }));
    this.#halves = halves;
    this.notCarried = notCarried;
    for (const { local, publicIp } of this.#halves) {
      if (publicIp === local) continue;
      throw new TweedError(
        'HOST_GW_PUBLIC_IP',
        `host-gw needs peers on the same link, which route to ${formatAddress(local)} of ${underlay.name}, ` +
          `but this host’s public address is ${formatAddress(publicIp)}; leave --public-ip${typeof local === 'number' ? '' : 'v6'} out, or use udp or vxlan`,
      );
    }
    this.#context = context;
    this.#kernel = kernel;
    this.#peers = new KernelPeers(
      log,
      this.#halves.map(({ family }) => family),
    );
  }

  async attributes(): Promise<LeaseAttributes> {
    const { publicIp, publicIpv6 } = this.#context;
    const has = (family: Family) => this.#halves.some((half) => half.family === family);
    return {
      publicIp: has(4) ? publicIp : 0,
      publicIpv6: has(6) ? publicIpv6 : null,
      backendType: this.type,
    };
  }

  async start(_lease: Lease, peers: PeerSet): Promise<void> {
    for (const line of await this.setPeers(peers)) this.#context.log.info(line);
    this.#running = true;
  }

  /** Makes the routes those of the peers, whatever they are now. */
  async setPeers(peers: PeerSet): Promise<readonly string[]> {
    const { name } = this.#context.underlay;
    const { ip } = this.#kernel;
    const leftovers = this.#peers.leftovers(peers);
    const removed: string[] = [];
    const troubles = new Map<string, string>();
    const wanted: WantedRoute[] = [];
    const done: string[] = [];
    for (const { family, ownership: both } of this.#halves) {
      const ownership = leftovers === 'any' ? both.former : both.today;
      if (leftovers === 'any') removed.push(...(await removeFormerDevices(ownership, this.#kernel)));
      const halves = peerHalves(peers.leases, family, troubles);
      const addresses = [...new Set(halves.map(({ publicIp }) => publicIp))];
      const [reach, present] = await Promise.all([readReach(addresses, ip), readNetworkRoutes(ownership.networks, ip)]);
      const routes = halves.flatMap(({ subnet, publicIp }): readonly WantedRoute[] => {
        const reason = offLinkReason(reach.get(publicIp), publicIp, name);
        if (reason === '') return [{ destination: subnet, gateway: publicIp, device: name, protocol: ROUTE_PROTOCOL }];
        const advice = 'host-gw needs all hosts on one link; use vxlan or udp between networks';
        troubles.set(formatAnyPrefix(subnet), `${reason}; ${advice}`);
        return [];
      });
      const { changes, obstacles } = routeDifference(routes, present, ownership, leftovers);
      const outcome = await applyChanges(changes, ip);
      for (const [subject, text] of [...obstacles, ...outcome.failed]) troubles.set(subject, text);
      wanted.push(...routes);
      done.push(...outcome.done);
    }
    const texts = wanted.map(({ destination, gateway = 0 }) => [formatAnyPrefix(destination), formatAddress(gateway)]);
    return [...removed, ...this.#peers.settle(peers, { troubles, wanted: JSON.stringify(texts), done })];
  }

  status(): BackendStatus {
    const { name } = this.#context.underlay;
    return {
      type: this.type,
      device: name,
      mtu: this.mtu,
      peers: this.#peers.reached,
      refused: this.#peers.refused,
      features: [],
      // There is no device of the overlay: these count everything on the interface.
      ...countsOf(deviceTotals(name, this.#kernel.readStatistics('dev')), 'underlay_'),
    };
  }

  async stop({ cleanUp }: { readonly cleanUp: boolean }): Promise<void> {
    if (!this.#running) return;
    this.#running = false;
    if (!cleanUp) return;
    const owned = this.#halves.map(({ ownership }) => ownership.today);
    const routes = await readNetworkRoutes(
      owned.flatMap(({ networks }) => networks),
      this.#kernel.ip,
    );
    const changes = routes
      .filter((route) => owned.some((ownership) => isOurs(route, ownership)))
      .map((route) => ({ subject: formatAnyPrefix(route.destination), command: deletion(route), text: '' }));
    const { failed } = await applyChanges(changes, this.#kernel.ip);
    for (const [subnet, text] of failed) this.#context.log.warn({ subnet }, `route not removed: ${text}`);
  }
}
