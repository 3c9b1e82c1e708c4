import { contains, netmask, type Prefix, prefixSize } from '../../base/ipv4.js';
import { containsIpv6, type Ipv6Prefix } from '../../base/ipv6.js';
import type { ForwarderOptions, Ipv6Options } from '../../encap/datapath/options.js';
import { MAX_RECEIVE_SLOTS } from '../../encap/datapath/receive-slots.js';
import type { Layout, OverlayNetworks } from '../../encap/forwarding/layout.js';
import type { Descriptors } from './descriptors.js';
import { maxSegments } from './kernel-quirks.js';

const ICMP_PER_SECOND = 100;
const ICMP_BURST = 50;

/** In place of the network of a family that the overlay does not carry. */
const NOTHING: Prefix = { address: 0xffff_ffff, length: 32 };

/** What a host's forwarders depend on. */
export interface ForwardingSettings {
  readonly layout: Layout;
  readonly descriptors: Descriptors;
  readonly networks: OverlayNetworks;
  /** This host's, of the same families. */
  readonly subnets: OverlayNetworks;
  readonly port: number;
  /** The longest packet of the overlay, bytes. */
  readonly mtu: number;
  /** Of the underlay: see encap/wire/unfinished.ts. */
  readonly mayBeUnfinished: boolean;
  readonly checkSenders: boolean;
  /** Receive many datagrams in one call. */
  readonly batch: boolean;
  /** Which kinds of merged packets the TUN takes. */
  readonly merging: { readonly tcp: boolean; readonly udp: boolean };
}

export function forwarderOptions(settings: ForwardingSettings): ForwarderOptions {
  const { layout, networks, subnets, port, mtu, mayBeUnfinished, checkSenders, merging } = settings;
  const { tun, socket, ipv4, ipv6 } = settings.descriptors;
  const network = networks.ipv4 ?? NOTHING;
  const subnet = subnets.ipv4 ?? NOTHING;
  return {
    layout,
    tun: tun.fd,
    socket: ipv4?.fd ?? -1,
    socketV6: ipv6?.fd ?? -1,
    vnetHeader: tun.vnetHeader,
    carriesIpv4: networks.ipv4 !== null,
    network: network.address,
    networkMask: netmask(network.length),
    subnet: subnet.address,
    subnetMask: netmask(subnet.length),
    ipv6: ipv6Options(networks.ipv6, subnets.ipv6),
    port,
    mtu,
    mayBeUnfinished,
    maxSegments: socket.gso ? maxSegments() : 1,
    receiveSlots: settings.batch ? MAX_RECEIVE_SLOTS : 1,
    mergeTcp: merging.tcp,
    mergeUdp: merging.udp,
    checkSenders,
    icmpSource: icmpSource(network, subnet),
    overlayAddress: subnet.address,
    icmpPerSecond: ICMP_PER_SECOND,
    icmpBurst: ICMP_BURST,
  };
}

/**
 * Where ICMP errors to local containers come from. The kernel drops a packet from the device whose source is an address
 * of this host, or one that it would not reach through the device (rp_filter). So it is the first address of the whole
 * overlay network, which no container has; the last one on the host that leased the first subnet.
 */
function icmpSource(network: Prefix, subnet: Prefix): number {
  return contains(subnet, network.address) ? network.address + prefixSize(network.length) - 1 : network.address;
}

/** The same for IPv6: the first address of a network is that of all its routers, which no container has either. */
function ipv6Options(network: Ipv6Prefix | null, subnet: Ipv6Prefix | null): Ipv6Options | null {
  if (network === null || subnet === null) return null;
  const last = network.address + (1n << BigInt(128 - network.length)) - 1n;
  const icmpSource = containsIpv6(subnet, network.address) ? last : network.address;
  return { network, subnet, icmpSource, overlayAddress: subnet.address };
}
