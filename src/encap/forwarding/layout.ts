import type { Prefix } from '../../base/ipv4.js';
import type { Ipv6Prefix } from '../../base/ipv6.js';
import { RegionAllocator } from '../../linux/memory.js';
import { THREADS } from './control-block.js';
import { COUNTER_WORDS } from './counters.js';
import { ENDPOINT_V6_BYTES, PEER_BYTES } from './peer-record.js';
import { ANYWHERE, ANYWHERE_V6, prefixTableBytes, rootOctet, rootShift } from './prefix-table.js';
import { senderEntries } from './sender-set.js';

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
/** Two for each peer, since one that is left rests a while before it is used again. */
const ENDPOINTS_PER_PEER = 2;

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
  /** What IPv6 takes besides: the subnets, and for the underlay the peers' socket addresses and who may be a sender. */
  readonly subnetsV6: number;
  readonly subnetOctetV6: number;
  readonly endpointsV6: number;
  readonly endpointCountV6: number;
  readonly sendersV6: number;
  readonly senderEntriesV6: number;
  readonly tx: number;
  readonly rx: number;
  /** What receives by the IPv6 socket. */
  readonly rxV6: number;
  readonly bytes: number;
}

/** The networks that the overlay's addresses lie in, by family; null for a family that it does not carry. */
export interface OverlayNetworks {
  readonly ipv4: Prefix | null;
  readonly ipv6: Ipv6Prefix | null;
}

export function planLayout({ ipv4, ipv6 }: OverlayNetworks, capacity: Capacity = CAPACITY): Layout {
  const regions = new RegionAllocator();
  const endpointCountV6 = ENDPOINTS_PER_PEER * capacity.peers;
  const senderEntriesV6 = senderEntries(capacity.peers);
  const layout = {
    capacity,
    control: regions.take(CONTROL_BYTES),
    loops: regions.take(THREADS * LOOP_BYTES),
    txCounters: regions.take(COUNTER_WORDS * 8, 4096),
    rxCounters: regions.take(COUNTER_WORDS * 8, 4096),
    peers: regions.take(capacity.peers * PEER_BYTES, 4096),
    subnets: regions.take(prefixTableBytes(capacity.subnetNodes), 4096),
    subnetShift: rootShift(ipv4 ?? ANYWHERE),
    senders: regions.take(prefixTableBytes(capacity.senderNodes), 4096),
    senderShift: rootShift(ANYWHERE),
    subnetsV6: regions.take(prefixTableBytes(capacity.subnetNodes), 4096),
    subnetOctetV6: rootOctet(ipv6 ?? ANYWHERE_V6),
    endpointsV6: regions.take(endpointCountV6 * ENDPOINT_V6_BYTES, 4096),
    endpointCountV6,
    sendersV6: regions.take(senderEntriesV6 * 4, 4096),
    senderEntriesV6,
    tx: regions.take(TX_BYTES, 4096),
    rx: regions.take(RX_BYTES, 4096),
    rxV6: regions.take(RX_BYTES, 4096),
  };
  return { ...layout, bytes: regions.used };
}
