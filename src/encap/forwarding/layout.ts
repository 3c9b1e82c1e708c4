import type { Prefix } from '../../base/ipv4.js';
import { RegionAllocator } from '../../linux/memory.js';
import { COUNTER_WORDS } from './counters.js';
import { PEER_BYTES } from './forwarding-table.js';
import { prefixTableBytes, rootShift } from './prefix-table.js';

/** How many peers, and distinct networks of theirs, fit. Address space only: untouched pages cost nothing. */
export const PEER_CAPACITY = 65_536;
export const SUBNET_NODES = 16_384;
export const SENDER_NODES = 16_384;

/** Memory that a forwarder thread's loop needs: the descriptors that it polls, and a few bytes to read into. */
export const LOOP_BYTES = 128;

/** Bytes that each forwarder has for itself: arena or receive slots, headers, kernel structures. */
export const TX_BYTES = 4 << 20;
export const RX_BYTES = 12 << 20;

/** Where everything lies in the shared memory; plain numbers, so it can be handed to a thread. Offsets in bytes. */
export interface Layout {
  readonly control: number;
  /** LOOP_BYTES for each forwarder thread. */
  readonly loops: number;
  readonly txCounters: number;
  readonly rxCounters: number;
  readonly peers: number;
  readonly subnets: number;
  readonly subnetShift: number;
  readonly senders: number;
  readonly tx: number;
  readonly rx: number;
  readonly bytes: number;
}

export function planLayout(network: Prefix): Layout {
  const regions = new RegionAllocator();
  const layout = {
    control: regions.take(4096),
    loops: regions.take(2 * LOOP_BYTES),
    txCounters: regions.take(COUNTER_WORDS * 8, 4096),
    rxCounters: regions.take(COUNTER_WORDS * 8, 4096),
    peers: regions.take(PEER_CAPACITY * PEER_BYTES, 4096),
    subnets: regions.take(prefixTableBytes(SUBNET_NODES), 4096),
    subnetShift: rootShift(network),
    senders: regions.take(prefixTableBytes(SENDER_NODES), 4096),
    tx: regions.take(TX_BYTES, 4096),
    rx: regions.take(RX_BYTES, 4096),
  };
  return { ...layout, bytes: regions.used };
}
