import type { Ipv6Prefix } from '../../base/ipv6.js';
import type { TransportLayout } from '../../wireguard/transport-layout.js';
import type { Layout } from '../forwarding/layout.js';

/**
 * Datagrams are WireGuard's. The number of a peer's record is the same in `layout` as in the forwarding table. The tunnel is
 * no hop then: inner packets arrive as they were sent, TTL included, as they do between other WireGuard devices.
 */
export interface SealingOptions {
  readonly layout: TransportLayout;
  /** The device's MTU, in bytes. */
  readonly mtu: number;
}

/** What the overlay is to IPv6, on this host. */
export interface Ipv6Options {
  readonly network: Ipv6Prefix;
  readonly subnet: Ipv6Prefix;
  /** The same as the IPv4 ones: sources of ICMPv6 errors to local and to remote containers. */
  readonly icmpSource: bigint;
  readonly overlayAddress: bigint;
}

/** What both forwarders are told at their start; plain data, handed to their threads. IPv4 addresses in host order. */
export interface ForwarderOptions {
  readonly layout: Layout;
  /** Descriptors. */
  readonly tun: number;
  /** One socket for each family of the underlay; −1 for one that this host does not have. */
  readonly socket: number;
  readonly socketV6: number;
  /** The TUN puts a virtio-net header before every packet. */
  readonly vnetHeader: boolean;
  /** The overlay carries IPv4, inside this network. */
  readonly carriesIpv4: boolean;
  readonly network: number;
  readonly networkMask: number;
  readonly subnet: number;
  readonly subnetMask: number;
  /** Null where the overlay carries no IPv6. */
  readonly ipv6: Ipv6Options | null;
  /** UDP port of every host. */
  readonly port: number;
  /** The longest packet of the overlay, bytes. */
  readonly mtu: number;
  /** The underlay may hand on what the sender's kernel left unfinished: see encap/wire/unfinished.ts. */
  readonly mayBeUnfinished: boolean;
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
  /** Without it inner packets travel as they are. */
  readonly sealing?: SealingOptions;
}
