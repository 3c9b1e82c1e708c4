import type { Prefix } from '../../base/ipv4.js';
import { RegionAllocator } from '../../linux/memory.js';
import { THREADS } from './control-block.js';
import { COUNTER_WORDS } from './counters.js';
import { PEER_BYTES } from './peer-record.js';
import { ANYWHERE, prefixTableBytes, rootShift } from './prefix-table.js';

/** How many peers, and distinct networks of theirs, fit. Address space only: untouched pages cost nothing. */
export interface Capacity {
  readonly peers: number;
  readonly subnetNodes: number;
  readonly senderNodes: number;
}

export const CAPACITY: Capacity = { peers: 65_536, subnetNodes: 16_384, senderNodes: 16_384 };

export const CONTROL_BYTES = 4096;
/** Memory that a forwarder thread's loop needs: the descriptors that it polls, and a few bytes to read into. */
export const LOOP_BYTES = 128;

/** Bytes that each forwarder has for itself: arena or receive slots, headers, kernel structures. */
export const TX_BYTES = 4 << 20;
export const RX_BYTES = 12 << 20;

/** Where everything lies in the shared memory; plain data, so it can be handed to a thread. Offsets in bytes. */
export interface Layout {
  readonly capacity: Capacity;
  readonly control: number;
  /** LOOP_BYTES for each forwarder thread. */
  readonly loops: number;
  readonly txCounters: number;
  readonly rxCounters: number;
  readonly peers: number;
  readonly subnets: number;
  readonly subnetShift: number;
  readonly senders: number;
  readonly senderShift: number;
  readonly tx: number;
  readonly rx: number;
  readonly bytes: number;
}

export function planLayout(network: Prefix, capacity: Capacity = CAPACITY): Layout {
  const regions = new RegionAllocator();
  const layout = {
    capacity,
    control: regions.take(CONTROL_BYTES),
    loops: regions.take(THREADS * LOOP_BYTES),
    txCounters: regions.take(COUNTER_WORDS * 8, 4096),
    rxCounters: regions.take(COUNTER_WORDS * 8, 4096),
    peers: regions.take(capacity.peers * PEER_BYTES, 4096),
    subnets: regions.take(prefixTableBytes(capacity.subnetNodes), 4096),
    subnetShift: rootShift(network),
    senders: regions.take(prefixTableBytes(capacity.senderNodes), 4096),
    senderShift: rootShift(ANYWHERE),
    tx: regions.take(TX_BYTES, 4096),
    rx: regions.take(RX_BYTES, 4096),
  };
  return { ...layout, bytes: regions.used };
}
