import { messageOf } from '../../base/errors.js';
import { contains, formatIpv4, formatPrefix, overlaps, type Prefix } from '../../base/ipv4.js';
import { Standing } from '../../base/standing.js';
import type { Lease, PeerChange } from '../../subnet/lease.js';
import type { BackendContext, PeerStatus } from '../backend.js';
import { shorten } from './changes.js';

/**
 * Makes the kernel match the peers, and returns one line of text for each change.
 *
 * @param formerLife the first time that the peers are known: what seems to be left from before and is no peer's goes
 */
export type Synchronize = (formerLife: boolean) => Promise<readonly string[]>;

/** The peers of a backend that forwards in the kernel, as they were last announced. */
export class KernelPeers {
  readonly #leases = new Map<string, Lease>();
  readonly #complaints: Standing;
  #known = false;
  /** Until a synchronization with known peers has succeeded. */
  #formerLife = true;
  #reached: readonly Lease[] = [];

  constructor(private readonly log: BackendContext['log']) {
    this.#complaints = new Standing(log);
  }

  /** False until the first `apply`: before, any route may be a peer's. */
  get known(): boolean {
    return this.#known;
  }

  /** In the order in which they were announced, the newest last. */
  get leases(): readonly Lease[] {
    return [...this.#leases.values()];
  }

  /** Takes over what was announced, and has the kernel follow. What fails is logged and left to the next check. */
  async apply(changes: readonly PeerChange[], synchronize: Synchronize): Promise<void> {
    for (const { kind, lease } of changes) {
      const subnet = formatPrefix(lease.subnet);
      this.#leases.delete(subnet); // one that changed counts as the newest
      if (kind !== 'removed') this.#leases.set(subnet, lease);
    }
    this.#known = true;
    try {
      for (const line of await this.check(synchronize)) this.log.debug(line);
    } catch (error) {
      this.log.error(`peers not applied: ${messageOf(error)}; the next check tries again`);
    }
  }

  /** Has the kernel follow, and returns some lines of text about what that took. */
  async check(synchronize: Synchronize): Promise<readonly string[]> {
    const lines = await synchronize(this.#known && this.#formerLife);
    if (this.#known) this.#formerLife = false;
    return shorten(lines);
  }

  /** What came of a synchronization: why a subnet is not reached, by subnet; news of it are logged. */
  settle(troubles: ReadonlyMap<string, string>): void {
    this.#complaints.update(troubles, 'subnet');
    this.#reached = this.leases.filter(({ subnet }) => !troubles.has(formatPrefix(subnet)));
  }

  /** The peers that packets can be sent to. Nobody counts their packets. */
  get status(): readonly PeerStatus[] {
    return this.#reached.map(({ subnet, attributes }) => ({
      subnet: formatPrefix(subnet),
      publicIp: formatIpv4(attributes.publicIp),
      txPackets: null,
      txBytes: null,
      rxPackets: null,
      rxBytes: null,
      lastReceived: null,
    }));
  }
}

/** Why a lease is no peer that packets can be sent to by this backend; empty when it is. */
export function refusalOf(
  { subnet, attributes }: Lease,
  type: string,
  { config, publicIp }: Pick<BackendContext, 'config' | 'publicIp'>,
  own: Prefix,
): string {
  const { network } = config;
  const theirs = attributes.backendType ?? 'udp'; // flannel's udp backend leaves it out
  if (theirs !== type) return `peer ignored: its backend is ${theirs}, ours is ${type}`;
  if (attributes.publicIp === 0) return 'peer ignored: it has no IPv4 address';
  if (attributes.publicIp === publicIp) return 'peer ignored: it names this host as its owner';
  if (subnet.length < network.length || !contains(network, subnet.address)) {
    return `peer ignored: its subnet is outside ${formatPrefix(network)}`;
  }
  if (overlaps(subnet, own)) return `peer ignored: its subnet overlaps ${formatPrefix(own)}, this host's own`;
  return '';
}
