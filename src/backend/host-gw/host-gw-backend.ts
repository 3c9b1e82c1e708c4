/**
 * The `host-gw` backend: no tunnel. Every peer's subnet is routed to the peer itself, which therefore has to be on the same
 * link, and packets keep their size.
 */

import { formatAnyPrefix } from '../../base/address.js';
import { TweedError } from '../../base/errors.js';
import { formatIpv4, formatPrefix } from '../../base/ipv4.js';
import { applyChanges } from '../../routes/changes.js';
import { countsOf, deviceTotals } from '../../routes/device-statistics.js';
import { offLinkReason, readReach } from '../../routes/on-link.js';
import { deletion, isOurs, ROUTE_PROTOCOL, readNetworkRoutes, routeDifference } from '../../routes/route-table.js';
import { hasIpv4, type Lease, type LeaseAttributes, type PeerSet } from '../../subnet/lease.js';
import type { Backend, BackendContext, BackendStatus } from '../backend.js';
import { type Ownership, ownershipOf, removeFormerDevices } from '../kernel/former-life.js';
import { hostKernel, type Kernel } from '../kernel/kernel.js';
import { KernelPeers } from '../kernel/kernel-peers.js';

export class HostGwBackend implements Backend {
  readonly type = 'host-gw';
  readonly mtu: number;
  /** The kernel forwards, and nothing of ours can fail for good. */
  readonly failed = new Promise<Error>(() => {});
  readonly #context: BackendContext;
  readonly #kernel: Kernel;
  readonly #ownership: Ownership;
  readonly #peers: KernelPeers;
  #running = false;

  /** @throws TweedError when peers could not route to this host */
  constructor(context: BackendContext, kernel: Kernel = hostKernel) {
    const { underlay, publicIp } = context;
    if (publicIp !== underlay.address) {
      throw new TweedError(
        'HOST_GW_PUBLIC_IP',
        `host-gw needs peers on the same link, which route to ${formatIpv4(underlay.address)} of ${underlay.name}, ` +
          `but this host’s public address is ${formatIpv4(publicIp)}; leave --public-ip out, or use udp or vxlan`,
      );
    }
    this.#context = context;
    this.#kernel = kernel;
    this.#peers = new KernelPeers(context.log);
    this.mtu = underlay.mtu;
    this.#ownership = ownershipOf(context, null);
  }

  async attributes(): Promise<LeaseAttributes> {
    return { publicIp: this.#context.publicIp, publicIpv6: null, backendType: this.type };
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
    const ownership = leftovers === 'any' ? this.#ownership.former : this.#ownership.today;
    const removed = leftovers === 'any' ? await removeFormerDevices(ownership, this.#kernel) : [];
    const troubles = new Map<string, string>();
    const addresses = [...new Set(peers.leases.filter(hasIpv4).map(({ attributes }) => attributes.publicIp))];
    const [reach, present] = await Promise.all([readReach(addresses, ip), readNetworkRoutes(ownership.networks, ip)]);
    const wanted = peers.leases.filter(hasIpv4).flatMap(({ subnet, attributes: { publicIp } }) => {
      const reason = offLinkReason(reach.get(publicIp), publicIp, name);
      if (reason === '') return [{ destination: subnet, gateway: publicIp, device: name, protocol: ROUTE_PROTOCOL }];
      const advice = 'host-gw needs all hosts on one link; use vxlan or udp between networks';
      troubles.set(formatPrefix(subnet), `${reason}; ${advice}`);
      return [];
    });
    const { changes, obstacles } = routeDifference(wanted, present, ownership, leftovers);
    const { done, failed } = await applyChanges(changes, ip);
    for (const [subject, text] of [...obstacles, ...failed]) troubles.set(subject, text);
    return [...removed, ...this.#peers.settle(peers, { troubles, wanted: JSON.stringify(wanted), done })];
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
    const routes = await readNetworkRoutes(this.#ownership.today.networks, this.#kernel.ip);
    const changes = routes
      .filter((route) => isOurs(route, this.#ownership.today))
      .map((route) => ({ subject: formatAnyPrefix(route.destination), command: deletion(route), text: '' }));
    const { failed } = await applyChanges(changes, this.#kernel.ip);
    for (const [subnet, text] of failed) this.#context.log.warn({ subnet }, `route not removed: ${text}`);
  }
}
