/**
 * What the programs read and write: layouts, sizes and names of the maps.
 *
 * Offsets in bytes. Numbers are little-endian, as the machine has them; addresses, ports and headers are in network order,
 * as packets have them, so that programs compare and copy words without turning them round.
 */
import {
  BPF_F_NO_PREALLOC,
  BPF_MAP_TYPE_ARRAY,
  BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE_LPM_TRIE,
  BPF_MAP_TYPE_LRU_HASH,
  BPF_MAP_TYPE_PERCPU_ARRAY,
} from '../linux/bpf.js';
import type { Bpf, MapShape } from './bpf.js';

/** `subnets`: inner address → peer, by the longest prefix. The key is the prefix's length and address. */
export const PREFIX_KEY_BYTES = 8;
export const PREFIX_LENGTH = 0;
export const PREFIX_ADDRESS = 4;

/**
 * A peer as the programs see it. The kernel replaces the whole record at once, so that no packet meets a half-written one.
 * Here is no counter, for it would be lost with each replacement.
 */
export const PEER_BYTES = 48;
/** Outer IPv4 and UDP headers, ready but for both lengths and the IPv4 checksum, which are 0. */
export const PEER_OUTER = 0;
/** The address that its datagrams go to and must come from, inside the header before. */
export const PEER_ADDRESS = PEER_OUTER + 16;
/** Sum of the outer IPv4 header's 16-bit words as they lie in memory, not folded: what the checksum starts with. */
export const PEER_CHECKSUM_BASE = 28;
/** The longest inner packet that may go out by the kernel path; what is longer is left to user space. */
export const PEER_MAX_PACKET = 32;
/** Where its counters are in `peer_counters`. */
export const PEER_INDEX = 36;

export const OUTER_IPV4 = 20;
export const OUTER_BYTES = 28;
export const ETHERNET_BYTES = 14;

/** `senders`: underlay addresses that have a peer. The value says nothing. */
export const SENDER_KEY_BYTES = 4;
export const SENDER_BYTES = 4;

/** `containers`: inner address → the host's end of the container's link, and the Ethernet header up to its type. */
export const CONTAINER_KEY_BYTES = 4;
export const CONTAINER_BYTES = 20;
export const CONTAINER_IFINDEX = 0;
/** Destination MAC (the container's) and source MAC. */
export const CONTAINER_MACS = 4;
/** The bridge that the link is a port of; 0 for none. */
export const CONTAINER_BRIDGE = 16;

/**
 * `flows`: what may go straight to a container, see programs/flows.ts. The key is the flow as it comes in: the remote and the
 * container's address, their ports (of ICMP the echo's identifier and 0), the protocol. Network order.
 */
export const FLOW_KEY_BYTES = 16;
export const FLOW_REMOTE = 0;
export const FLOW_CONTAINER = 4;
export const FLOW_REMOTE_PORT = 8;
export const FLOW_CONTAINER_PORT = 10;
export const FLOW_PROTOCOL = 12;
/** Nanoseconds of the monotonic clock when the container last sent something of it. */
export const FLOW_BYTES = 8;

/** `peer_counters`: 64-bit numbers for each peer and processor. */
export const PeerCount = {
  txPackets: 0,
  txBytes: 8,
  rxPackets: 16,
  rxBytes: 24,
  /** Nanoseconds of the monotonic clock when something last came from it; 0 for never. */
  lastReceived: 32,
  /** The same for a super-packet that arrived whole. */
  lastSuperPacket: 40,
} as const;
export const PEER_COUNTER_BYTES = 48;

/** `counters`: 64-bit numbers for each processor, named as the forwarders' totals and drops are, so that they add up. */
export const Total = {
  tx_packets: 0,
  tx_bytes: 8,
  tx_super_packets: 16,
  rx_datagrams: 24,
  rx_packets: 32,
  rx_bytes: 40,
} as const;
export const Drop = {
  tx_send_error: 48,
  rx_unknown_sender: 56,
  rx_bad_length: 64,
  rx_bad_header_checksum: 72,
  rx_ttl_zero: 80,
  rx_spoofed_source: 88,
  rx_foreign_destination: 96,
  rx_tun_write_error: 104,
} as const;
/** Super-packets that were spared a bridge; their packets are among `rx_packets`. */
export const PAST_BRIDGE = 112;
export const COUNTER_BYTES = 120;

/** `state`: one record. */
export const STATE_BYTES = 16;
/** Not 0 when every peer is in the maps, so that who is not is none. */
export const STATE_COMPLETE = 0;
/** Number of the device that single packets of TCP are sent into to be merged; 0: they are not. */
export const STATE_MERGE_INTO = 4;
/**
 * Nanoseconds of the monotonic clock until which a daemon keeps the maps as the host is. Afterwards they are what they were once:
 * nobody who is missing is taken for a stranger, and nothing goes to where a container was.
 */
export const STATE_TENDED_UNTIL = 8;

export type MapName = 'state' | 'subnets' | 'senders' | 'containers' | 'flows' | 'counters' | 'peer_counters';
export type Maps = Readonly<Record<MapName, number>>;

/** How many peers and containers the kernel path takes; those beyond go through user space. */
export interface Capacity {
  readonly peers: number;
  readonly containers: number;
  /** Flows that go straight to a container; of those beyond, the ones longest silent go by route. */
  readonly flows: number;
}
export const DEFAULT_CAPACITY: Capacity = { peers: 16_384, containers: 16_384, flows: 65_536 };

function shapes({ peers, containers, flows }: Capacity): Readonly<Record<MapName, Omit<MapShape, 'name'>>> {
  return {
    subnets: {
      type: BPF_MAP_TYPE_LPM_TRIE,
      keyBytes: PREFIX_KEY_BYTES,
      valueBytes: PEER_BYTES,
      maxEntries: peers,
      flags: BPF_F_NO_PREALLOC,
    },
    senders: {
      type: BPF_MAP_TYPE_HASH,
      keyBytes: SENDER_KEY_BYTES,
      valueBytes: SENDER_BYTES,
      maxEntries: peers,
      flags: BPF_F_NO_PREALLOC,
    },
    containers: {
      type: BPF_MAP_TYPE_HASH,
      keyBytes: CONTAINER_KEY_BYTES,
      valueBytes: CONTAINER_BYTES,
      maxEntries: containers,
      flags: BPF_F_NO_PREALLOC,
    },
    flows: { type: BPF_MAP_TYPE_LRU_HASH, keyBytes: FLOW_KEY_BYTES, valueBytes: FLOW_BYTES, maxEntries: flows },
    state: { type: BPF_MAP_TYPE_ARRAY, keyBytes: 4, valueBytes: STATE_BYTES, maxEntries: 1 },
    counters: { type: BPF_MAP_TYPE_PERCPU_ARRAY, keyBytes: 4, valueBytes: COUNTER_BYTES, maxEntries: 1 },
    peer_counters: {
      type: BPF_MAP_TYPE_PERCPU_ARRAY,
      keyBytes: 4,
      valueBytes: PEER_COUNTER_BYTES,
      maxEntries: peers,
    },
  };
}

/** What the kernel shows as the name of a map: all of ours begin alike. */
export const OBJECT_PREFIX = 'tweed_';

/** Makes all maps, or none. @throws BpfError */
export function createMaps(bpf: Bpf, capacity: Capacity = DEFAULT_CAPACITY): Maps {
  const made: Partial<Record<MapName, number>> = {};
  try {
    for (const [name, shape] of Object.entries(shapes(capacity))) {
      made[name as MapName] = bpf.createMap({ name: OBJECT_PREFIX + name, ...shape });
    }
    return made as Maps;
  } catch (error) {
    closeMaps(bpf, made);
    throw error;
  }
}

export function closeMaps(bpf: Bpf, maps: Partial<Maps>): void {
  for (const descriptor of Object.values(maps)) bpf.close(descriptor);
}
