import type { Layout } from '../forwarding/layout.js';

/** What both forwarders are told at their start; plain data, handed to their threads. Addresses in host order. */
export interface ForwarderOptions {
  readonly layout: Layout;
  /** Descriptors. */
  readonly tun: number;
  readonly socket: number;
  /** The TUN puts a virtio-net header before every packet. */
  readonly vnetHeader: boolean;
  readonly network: number;
  readonly networkMask: number;
  readonly subnet: number;
  readonly subnetMask: number;
  /** UDP port of every host. */
  readonly port: number;
  /** The longest packet of the overlay, bytes. */
  readonly mtu: number;
  /** The underlay may hand on what the sender's kernel left unfinished: see encap/wire/unfinished.ts. */
  readonly mayBeUnfinished: boolean;
  /** Bytes that the underlay adds to an inner packet: its IPv4 and UDP headers. */
  readonly encapsulationOverhead: number;
  /** Most datagrams in one send; 1 when segmented sends are off. */
  readonly maxSegments: number;
  /** Most datagrams in one receive; 1 when batched receives are off. */
  readonly receiveSlots: number;
  readonly mergeTcp: boolean;
  readonly mergeUdp: boolean;
  /** Drop what does not come from a current peer's address and port, or claims another peer's inner address. */
  readonly checkSenders: boolean;
  /** The source of ICMP errors to local containers: inside the overlay, but not an address of this host. */
  readonly icmpSource: number;
  /** The source of ICMP errors to remote containers: this host's address on the overlay. */
  readonly overlayAddress: number;
  readonly icmpPerSecond: number;
  readonly icmpBurst: number;
}
