import { contains, netmask, type Prefix, prefixSize } from '../../base/ipv4.js';
import type { ForwarderOptions } from '../../encap/datapath/options.js';
import { MAX_RECEIVE_SLOTS } from '../../encap/datapath/rx.js';
import type { Layout } from '../../encap/forwarding/layout.js';
import type { Descriptors } from './descriptors.js';
import { maxSegments } from './kernel-quirks.js';
import { UDP_OVERHEAD } from './wire.js';

const ICMP_PER_SECOND = 100;
const ICMP_BURST = 50;

/** What a host's forwarders depend on. */
export interface ForwardingSettings {
  readonly layout: Layout;
  readonly descriptors: Descriptors;
  readonly network: Prefix;
  /** This host's. */
  readonly subnet: Prefix;
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
  const { layout, network, subnet, port, mtu, mayBeUnfinished, checkSenders, merging } = settings;
  const { tun, socket } = settings.descriptors;
  return {
    layout,
    tun: tun.fd,
    socket: socket.fd,
    vnetHeader: tun.vnetHeader,
    network: network.address,
    networkMask: netmask(network.length),
    subnet: subnet.address,
    subnetMask: netmask(subnet.length),
    port,
    mtu,
    mayBeUnfinished,
    encapsulationOverhead: UDP_OVERHEAD,
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
