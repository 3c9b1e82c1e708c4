/** How one peer lies in the shared memory: two cache lines, the first written by the TUN → UDP forwarder, the second by the other one. */
export const PEER_BYTES = 128;
/** Its IPv4 socket address, where its datagrams go unless PEER_ENDPOINT_V6 says otherwise; address 0 where it has none. */
export const PEER_SOCKADDR = 0;
export const PEER_TX_PACKETS = 16;
export const PEER_TX_BYTES = 24;
/** Offset in the memory of the IPv6 socket address where its datagrams go; 0 where they go by IPv4. */
export const PEER_ENDPOINT_V6 = 32;
/** The IPv6 address that its datagrams may come from, in network order; zeros where it has none. */
export const PEER_IPV6 = 48;
export const PEER_RX_PACKETS = 64;
export const PEER_RX_BYTES = 72;
/** Milliseconds since the epoch when something last came from it; 0 for never. */
export const PEER_LAST_RECEIVED = 80;

/** Bytes of an IPv6 socket address that peers' datagrams go to. They lie apart, so that one store moves a peer to another. */
export const ENDPOINT_V6_BYTES = 32;
