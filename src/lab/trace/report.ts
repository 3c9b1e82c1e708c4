import type { Address } from '../../base/address.js';
import type { Hop } from './flight.js';
import type { Packet } from './packet.js';

/** A hop with what was decided there. */
export interface Step extends Hop {
  /** Microseconds since the step before; null for the first. */
  readonly sinceLast: number | null;
  /** What it decided by, a line each: route, translation, peer, port of the bridge. */
  readonly decisions: readonly string[];
}

export interface Verdict {
  /**
   * `answered`, or `arrived` without an answer; `refused` at its end, by a closed port or a firewall there; `stopped` on its way.
   */
  readonly outcome: 'answered' | 'arrived' | 'refused' | 'stopped';
  /** A sentence. */
  readonly text: string;
  /** What the sentence is concluded from, the strongest first. */
  readonly evidence: readonly string[];
  /** What mends it, as the words of a command of the lab; empty where there is nothing. */
  readonly mend: string;
}

/** What a trace tells. */
export interface TraceReport {
  readonly backend: string;
  readonly from: string;
  readonly to: string;
  /** Where the packet was sent to. */
  readonly destination: Address;
  /** As it left, or would have left. */
  readonly what: string;
  readonly packet: Packet | null;
  readonly there: readonly Step[];
  /** The way of the answer; empty where there was none, or it was not asked for. */
  readonly back: readonly Step[];
  /** Ports that got a copy, because a bridge did not know the address yet. */
  readonly flooded: readonly string[];
  /** Places whose capture lost packets, so that hops may be missing. */
  readonly incomplete: readonly string[];
  readonly verdict: Verdict;
  /** The command that mends it, as it is typed; empty where there is none. */
  readonly mend: string;
}
