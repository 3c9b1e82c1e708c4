import type { Prefix } from '../../base/ipv4.js';

/** What holds for the life of the programs, and so stands in their instructions. Addresses in host order. */
export interface ProgramSettings {
  /** The overlay. */
  readonly network: Prefix;
  /** This host's part of it. */
  readonly subnet: Prefix;
  /** This host's address on the underlay, where datagrams come to. */
  readonly address: number;
  /** UDP port of every host. */
  readonly port: number;
  readonly underlayIfindex: number;
  readonly tunIfindex: number;
}

/** How to learn what connection tracking knows of a packet; differs from kernel to kernel. */
export interface ConntrackPlaces {
  /** Number of `bpf_cast_to_kern_ctx`. */
  readonly castToKernel: number;
  /** Bytes from the beginning of `struct sk_buff` and `struct nf_conn`. */
  readonly connectionInPacket: number;
  readonly statusInConnection: number;
}

/** How a decapsulated packet goes on: as if the TUN had delivered it, or straight to the container where that is known. */
export type InboundMode = 'route' | 'direct';
