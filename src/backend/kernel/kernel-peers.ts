import { type AnyPrefix, type Family, familyOf, formatAnyPrefix } from '../../base/address.js';
import type { Logger } from '../../base/log.js';
import { Standing } from '../../base/standing.js';
import { shorten } from '../../routes/changes.js';
import type { Leftovers } from '../../routes/route-table.js';
import { halvesOf, type Lease, type PeerSet, publicName } from '../../subnet/lease.js';
import { type PeerStatus, peerNames, type RefusedPeer } from '../backend.js';

/** What one look at the kernel led to. */
export interface Settlement {
  /** By subject, a peer's subnet or something of a former peer: why it is not as it should be. */
  readonly troubles: ReadonlyMap<string, string>;
  /** Everything that was wanted for the peers, as text. */
  readonly wanted: string;
  /** One line of text for each change that was made for them. */
  readonly done: readonly string[];
}

/** What became of the peers that a backend which forwards in the kernel was given last: for status and log, never to decide by. */
export class KernelPeers {
  readonly #log: Logger;
  readonly #complaints: Standing;
  #wanted: string | null = null;
  #peers: readonly Lease[] = [];
  #troubles: ReadonlyMap<string, string> = new Map();
  /** What an earlier life left behind has been cleared away. */
  #cleared = false;

  readonly #families: readonly Family[];

  /** @param families that are carried here */
  constructor(log: Logger, families: readonly Family[] = [4]) {
    this.#log = log;
    this.#families = families;
    this.#complaints = new Standing(log);
  }

  /** What may be taken for left over when these are the peers. */
  leftovers({ complete }: PeerSet): Leftovers {
    if (!complete) return 'none';
    return this.#cleared ? 'ours' : 'any';
  }

  /**
   * Takes note of what was done.
   *
   * @returns what another program had undone: changes though nothing else was wanted than the last time. All others are
   * the peers' own doing and are only logged.
   */
  settle({ leases, complete }: PeerSet, { troubles, wanted, done }: Settlement): readonly string[] {
    const isRepair = wanted === this.#wanted && (this.#cleared || !complete);
    this.#wanted = wanted;
    this.#cleared ||= complete;
    this.#complaints.update(
      new Map([...troubles].map(([subject, text]) => [subject, `peer refused: ${text}`])),
      'subnet',
    );
    this.#peers = leases;
    this.#troubles = troubles;
    const lines = shorten(done);
    if (isRepair) return lines;
    for (const line of lines) this.#log.debug(line);
    return [];
  }

  /** The peers that packets can be sent to. Nobody counts their packets. */
  get reached(): readonly PeerStatus[] {
    return this.#peers.flatMap((lease) => {
      const isReached = (half: AnyPrefix | null) =>
        half !== null && this.#families.includes(familyOf(half.address)) && !this.#troubles.has(formatAnyPrefix(half));
      const subnet = isReached(lease.subnet) ? lease.subnet : null;
      const subnetV6 = isReached(lease.subnetV6) ? lease.subnetV6 : null;
      if (subnet === null && subnetV6 === null) return [];
      const names = peerNames({ ...lease, subnet, subnetV6 });
      return [{ ...names, txPackets: null, txBytes: null, rxPackets: null, rxBytes: null, lastReceived: null }];
    });
  }

  get refused(): readonly RefusedPeer[] {
    return this.#peers.flatMap((lease) =>
      halvesOf(lease).flatMap((half): readonly RefusedPeer[] => {
        const subnet = formatAnyPrefix(half);
        const reason = this.#troubles.get(subnet);
        return reason === undefined ? [] : [{ subnet, publicIp: publicName(lease.attributes), reason }];
      }),
    );
  }
}
