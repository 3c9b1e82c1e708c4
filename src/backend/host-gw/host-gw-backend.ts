/**
 * The `host-gw` backend: no tunnel. Every peer's subnet is routed to the peer itself, which therefore has to be on the same
 * link, and packets keep their size.
 */

import { messageOf, TweedError } from '../../base/errors.js';
import { formatIpv4, formatPrefix } from '../../base/ipv4.js';
import type { Lease, LeaseAttributes, PeerChange } from '../../subnet/lease.js';
import type { Backend, BackendContext, BackendStatus } from '../backend.js';
import { applyChanges, shorten } from '../changes.js';
import { deviceTotals } from '../device-statistics.js';
import { removeFormerDevices } from '../former-life.js';
import { hostKernel, type Kernel } from '../kernel.js';
import { offLinkReason, readReach } from '../on-link.js';
import { PeerBook, refusalOf } from '../peer-book.js';
import { deletion, isOurs, type RouteOwnership, readNetworkRoutes, routeDifference } from '../peer-routes.js';
import { StandingComplaints } from '../standing-complaints.js';

/** Everything that exists between `start` and `stop`. */
interface Running {
  readonly lease: Lease;
  readonly book: PeerBook;
  /** False until the first `applyPeers`: before, any route may be a peer's. */
  peersKnown: boolean;
  /** Peers that are routed to. */
  routed: readonly Lease[];
}

export class HostGwBackend implements Backend {
  readonly type = 'host-gw';
  readonly mtu: number;
  /** The kernel forwards, and nothing of ours can fail for good. */
  readonly failed = new Promise<Error>(() => {});
  readonly #context: BackendContext;
  readonly #kernel: Kernel;
  readonly #ownership: RouteOwnership;
  readonly #complaints: StandingComplaints;
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
    this.#complaints = new StandingComplaints(context.log, 'subnet');
  }

  async attributes(): Promise<LeaseAttributes> {
    return { publicIp: this.#context.publicIp, publicIpv6: null, backendType: this.type };
  }

  async start(lease: Lease): Promise<void> {
    for (const line of await removeFormerDevices(this.#ownership, this.#kernel)) this.#context.log.info(line);
    this.#running = { lease, book: new PeerBook(), peersKnown: false, routed: [] };
  }

  async applyPeers(changes: readonly PeerChange[]): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    const { log } = this.#context;
    running.book.apply(changes);
    const first = !running.peersKnown;
    running.peersKnown = true;
    try {
      for (const line of shorten(await this.#synchronize(running, first))) log[first ? 'info' : 'debug'](line);
    } catch (error) {
      log.error(`peers not applied: ${messageOf(error)}; the next check tries again`);
    }
  }

  async reconcile(): Promise<readonly string[]> {
    const running = this.#running;
    return running === null || !running.peersKnown ? [] : shorten(await this.#synchronize(running, false));
  }

  /** Makes the routes those of the peers, whatever they are now. */
  async #synchronize(running: Running, formerLife: boolean): Promise<readonly string[]> {
    const { underlay } = this.#context;
    const complaints = new Map<string, string>();
    const candidates = running.book.leases.filter((peer) => {
      const refusal = refusalOf(peer, this.type, this.#context, running.lease.subnet);
      if (refusal !== '') complaints.set(formatPrefix(peer.subnet), refusal);
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
        complaints.set(formatPrefix(subnet), `peer refused: ${reason}; ${advice}`);
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
    for (const [subnet, text] of [...obstacles, ...failed]) complaints.set(subnet, `peer not routed to: ${text}`);
    this.#complaints.update(complaints);
    running.routed = onLink.filter(({ subnet }) => !complaints.has(formatPrefix(subnet)));
    return done;
  }

  status(): BackendStatus {
    const { name } = this.#context.underlay;
    const totals = deviceTotals(name, this.#kernel.readStatistics('dev'));
    return {
      type: this.type,
      device: name,
      mtu: this.mtu,
      peers: (this.#running?.routed ?? []).map(({ subnet, attributes }) => ({
        subnet: formatPrefix(subnet),
        publicIp: formatIpv4(attributes.publicIp),
        txPackets: null,
        txBytes: null,
        rxPackets: null,
        rxBytes: null,
        lastReceived: null,
      })),
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
