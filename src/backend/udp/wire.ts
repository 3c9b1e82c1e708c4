/** What the `udp` backend puts on the wire, for all who have to know without running it. */

import { OVERHEAD_IPV4, OVERHEAD_IPV6 } from '../../encap/wire/headers.js';
import { Members } from '../../subnet/network-config/members.js';

/** Outer IPv4 and UDP headers. */
export const UDP_OVERHEAD = OVERHEAD_IPV4;
/** The same where a peer may only be reached by IPv6. */
export const UDP_OVERHEAD_V6 = OVERHEAD_IPV6;
/** flannel's. */
export const UDP_PORT = 8285;

/** `Backend.Port` of the network configuration. @throws ConfigError */
export function readUdpPort(options: Readonly<Record<string, unknown>>): number {
  return new Members(options, 'Backend.').integer('Port', 1, 65_535) ?? UDP_PORT;
}
