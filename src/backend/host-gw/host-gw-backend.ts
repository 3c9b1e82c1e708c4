/**
 * The `host-gw` backend: no tunnel. Every peer's subnet is routed to the peer itself, which therefore has to be on the same
 * link, and packets keep their size.
 */

import { TweedError } from '../../base/errors.js';
import { formatIpv4, formatPrefix } from '../../base/ipv4.js';
import { deviceTotals } from '../../routes/device-statistics.js';
import type { Lease, LeaseAttributes, PeerChange } from '../../subnet/lease.js';
import type { Backend, BackendContext, BackendStatus } from '../backend.js';
import { applyChanges } from '../kernel/changes.js';
import { removeFormerDevices } from '../kernel/former-life.js';
import { hostKernel, type Kernel } from '../kernel/kernel.js';
import { KernelPeers, refusalOf } from '../kernel/kernel-peers.js';
import { offLinkReason, readReach } from '../kernel/on-link.js';
import { deletion, isOurs, type RouteOwnership, readNetworkRoutes, routeDifference } from '../kernel/peer-routes.js';

/** Everything that exists between `start` and `stop`. */
interface Running {
  readonly lease: Lease;
  readonly peers: KernelPeers;
}

export class HostGwBackend implements Backend {
  readonly type = 'host-gw';
  readonly mtu: number;
  /** The kernel forwards, and nothing of ours can fail for good. */
  readonly failed = new Promise<Error>(() => {});
  readonly #context: BackendContext;
  readonly #kernel: Kernel;
  readonly #ownership: RouteOwnership;
  #running: Running | null = null;

  /** @throws TweedError when peers could not route to this host */
  constructor(context: BackendContext, kernel: Kernel = hostKernel) {
    const { underlay, publicIp, config, formerNetworks = [] } = context;
    if (publicIp !== underlay.address) {
      throw new TweedError(
        'HOST_GW_PUBLIC_IP',
        `host-gw needs peers on the same link, which route to ${formatIpv4(underlay.address)} of ${underlay.name}, ` +
          `but this host’s public address is ${formatIpv4(publicIp)}; leave --public-ip out, or use udp or vxlan`,
      );
    }
    this.#context = context;
    this.#kernel = kernel;
    this.mtu = underlay.mtu;
    this.#ownership = {
      networks: [config.network, ...formerNetworks],
      ownDevice: null,
      underlay: underlay.name,
      subnetLength: config.subnetLength,
    };
  }

  async attributes(): Promise<LeaseAttributes> {
    return { publicIp: this.#context.publicIp, publicIpv6: null, backendType: this.type };
  }

  async start(lease: Lease): Promise<void> {
    for (const line of await removeFormerDevices(this.#ownership, this.#kernel)) this.#context.log.info(line);
    this.#running = { lease, peers: new KernelPeers(this.#context.log) };
  }

  async applyPeers(changes: readonly PeerChange[]): Promise<void> {
    const running = this.#running;
    await running?.peers.apply(changes, (formerLife) => this.#synchronize(running, formerLife));
  }

  async reconcile(): Promise<readonly string[]> {
    const running = this.#running;
    if (running === null || !running.peers.known) return [];
    return running.peers.check((formerLife) => this.#synchronize(running, formerLife));
  }

  /** Makes the routes those of the peers, whatever they are now. */
  async #synchronize(running: Running, formerLife: boolean): Promise<readonly string[]> {
    const { underlay } = this.#context;
    const troubles = new Map<string, string>();
    const candidates = running.peers.leases.filter((peer) => {
      const refusal = refusalOf(peer, this.type, this.#context, running.lease.subnet);
      if (refusal !== '') troubles.set(formatPrefix(peer.subnet), refusal);
      return refusal === '';
    });
    const addresses = [...new Set(candidates.map(({ attributes }) => attributes.publicIp))];
    const [reach, present] = await Promise.all([
      readReach(addresses, this.#kernel.run),
      readNetworkRoutes(this.#ownership.networks, this.#kernel),
    ]);
    const onLink = candidates.filter(({ subnet, attributes: { publicIp } }) => {
      const reason = offLinkReason(reach.get(publicIp), publicIp, underlay.name);
      if (reason !== '') {
        const advice = 'host-gw needs all hosts on one link; use vxlan or udp between networks';
        troubles.set(formatPrefix(subnet), `peer refused: ${reason}; ${advice}`);
      }
      return reason === '';
    });
    const wanted = onLink.map(({ subnet, attributes }) => ({
      destination: subnet,
      gateway: attributes.publicIp,
      device: underlay.name,
    }));
    const { changes, obstacles } = routeDifference(wanted, present, this.#ownership, formerLife);
    const { done, failed } = await applyChanges(changes, this.#kernel.ip);
    for (const [subnet, text] of [...obstacles, ...failed]) troubles.set(subnet, `peer not routed to: ${text}`);
    running.peers.settle(troubles);
    return done;
  }

  status(): BackendStatus {
    const { name } = this.#context.underlay;
    const totals = deviceTotals(name, this.#kernel.readStatistics('dev'));
    return {
      type: this.type,
      device: name,
      mtu: this.mtu,
      peers: this.#running?.peers.status ?? [],
      features: [],
      // There is no device of the overlay: these count everything on the interface.
      totals: {
        underlay_tx_packets: totals.txPackets,
        underlay_tx_bytes: totals.txBytes,
        underlay_rx_packets: totals.rxPackets,
        underlay_rx_bytes: totals.rxBytes,
      },
      drops: {
        underlay_tx_dropped: totals.txDrops,
        underlay_tx_errors: totals.txErrors,
        underlay_rx_dropped: totals.rxDrops,
        underlay_rx_errors: totals.rxErrors,
      },
    };
  }

  async stop({ cleanUp }: { readonly cleanUp: boolean }): Promise<void> {
    if (this.#running === null) return;
    this.#running = null;
    if (!cleanUp) return;
    const routes = await readNetworkRoutes(this.#ownership.networks, this.#kernel);
    const changes = routes
      .filter((route) => isOurs(route, this.#ownership))
      .map((route) => ({ subject: formatPrefix(route.destination), command: deletion(route), text: '' }));
    const { failed } = await applyChanges(changes, this.#kernel.ip);
    for (const [subnet, text] of failed) this.#context.log.warn({ subnet }, `route not removed: ${text}`);
  }
}
