/**
 * What the forwarders count, in shared memory: one 64-bit float a counter, written by one thread, read by any.
 *
 * A double counts exactly up to 2⁵³. A reader may see a counter a moment late, never a wrong number.
 */

/** Numbers the names, in order. */
function index<const N extends readonly string[]>(names: N): { readonly [K in N[number]]: number } {
  return Object.fromEntries(names.map((name, i) => [name, i])) as { readonly [K in N[number]]: number };
}

/** Why the TUN → UDP forwarder dropped a packet. */
export const TX_DROPS = [
  'short',
  'bad_version',
  'bad_header',
  'bad_length',
  'bad_offload_header',
  'multicast_or_link_local',
  'no_route',
  'no_route_yet',
  'ttl_expired',
  'message_too_long',
  'send_buffer_full',
  'underlay_unreachable',
  'send_refused',
  'send_error',
] as const;

/** Why the UDP → TUN forwarder dropped a packet. */
export const RX_DROPS = [
  'truncated',
  'unknown_sender',
  'short',
  'bad_version',
  'bad_header',
  'bad_length',
  'bad_header_checksum',
  'ttl_zero',
  'ttl_expired',
  'multicast_or_link_local',
  'spoofed_source',
  'foreign_destination',
  'tun_down',
  'tun_write_error',
] as const;

/** How many wire packets one read from the TUN made: exactly 1, then up to 2, 4, … 64, and more. */
export const SEGMENT_BUCKETS = [1, 2, 4, 8, 16, 32, 64] as const;

const TX_NAMES = [
  'turns',
  'reads',
  'super_packets',
  'packets',
  'bytes',
  'sends',
  'segmented_sends',
  'send_retries',
  'replayed_packets',
  'icmp_sent',
  'icmp_suppressed',
  'segments_le_1',
  'segments_le_2',
  'segments_le_4',
  'segments_le_8',
  'segments_le_16',
  'segments_le_32',
  'segments_le_64',
  'segments_more',
] as const;

const RX_NAMES = [
  'turns',
  'receives',
  'datagrams',
  'coalesced_datagrams',
  'packets',
  'bytes',
  'writes',
  'merged_writes',
  'merged_packets',
  'bad_inner_checksum',
  'unfinished_packets',
  'replayed_packets',
  'icmp_sent',
  'icmp_suppressed',
] as const;

export const Tx = index(TX_NAMES);
export const Rx = index(RX_NAMES);
export const TxDrop = index(TX_DROPS);
export const RxDrop = index(RX_DROPS);

/** Doubles that one direction's counters take: the counters, then the drops. */
export const COUNTER_WORDS = 64;
const DROPS_AT = 32;

/** One direction's counters. Every thread makes its own view of the same memory; only one of them writes. */
export class Counters {
  readonly words: Float64Array;

  /** @param at offset of COUNTER_WORDS doubles */
  constructor(f64: Float64Array, at: number) {
    this.words = f64.subarray(at >>> 3, (at >>> 3) + COUNTER_WORDS);
  }

  add(counter: number, amount: number): void {
    this.words[counter] += amount;
  }

  drop(reason: number, packets: number): void {
    this.words[DROPS_AT + reason] += packets;
  }

  get(counter: number): number {
    return this.words[counter];
  }

  dropped(reason: number): number {
    return this.words[DROPS_AT + reason];
  }

  /** All counters and drops together: another number whenever anything was counted. */
  sum(): number {
    return this.words.reduce((sum, word) => sum + word, 0);
  }
}

/** All counters of both directions by name, for people and for metrics. */
export function readTotals(tx: Counters, rx: Counters): Record<string, number> {
  return {
    ...byName('tx', TX_NAMES, (counter) => tx.get(counter)),
    ...byName('rx', RX_NAMES, (counter) => rx.get(counter)),
  };
}

/** All drops of both directions by reason. */
export function readDrops(tx: Counters, rx: Counters): Record<string, number> {
  return {
    ...byName('tx', TX_DROPS, (reason) => tx.dropped(reason)),
    ...byName('rx', RX_DROPS, (reason) => rx.dropped(reason)),
  };
}

function byName(prefix: string, names: readonly string[], count: (index: number) => number): Record<string, number> {
  return Object.fromEntries(names.map((name, i) => [`${prefix}_${name}`, count(i)]));
}
