/** Why a forwarder did not seal or open a message. One double for each reason, in shared memory, written by one thread. */

function index<const N extends readonly string[]>(names: N): { readonly [K in N[number]]: number } {
  return Object.fromEntries(names.map((name, i) => [name, i])) as { readonly [K in N[number]]: number };
}

export const SEAL_DROPS = [
  /** No session with the peer: a handshake is asked for, and the packet may wait for it. */
  'no_key',
  /** The session has sent all that it may. */
  'key_exhausted',
  'cipher_failed',
  /** Of the packets that waited for a session: those that others pushed out, or that waited in vain. */
  'handshake_queue',
  /** Had a session, and could not be sealed all the same, for one of the reasons before. */
  'unsealed',
] as const;

export const OPEN_DROPS = [
  /** No message of WireGuard's, by type or length. */
  'not_wireguard',
  /** A handshake message while too many were waiting. */
  'handshakes_full',
  /** Names no session of ours. */
  'unknown_session',
  /** A counter beyond what a session may send. */
  'counter_exhausted',
  /** Changed on its way, or made by somebody without the key. */
  'not_authentic',
  /** Came before, or too late to tell. */
  'replayed',
  /** Authentic, but no IP packet of a length that fits in. */
  'not_ip',
] as const;

export const SealDrop = index(SEAL_DROPS);
export const OpenDrop = index(OPEN_DROPS);

/** Bytes of either side's counters. */
export const DROPS_BYTES = 64;

/** Reads the counters at `at` by name. */
export function readTransportDrops(f64: Float64Array, at: number, names: readonly string[]): Record<string, number> {
  return Object.fromEntries(names.map((name, i) => [name, f64[(at >>> 3) + i]]));
}
