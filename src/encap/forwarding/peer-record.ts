/** How one peer lies in the shared memory: two cache lines, the first written by the TUN → UDP forwarder, the second by the other one. */
export const PEER_BYTES = 128;
/** The socket address that its datagrams go to, written by the control thread. */
export const PEER_SOCKADDR = 0;
export const PEER_TX_PACKETS = 16;
export const PEER_TX_BYTES = 24;
export const PEER_RX_PACKETS = 64;
export const PEER_RX_BYTES = 72;
/** Milliseconds since the epoch when something last came from it; 0 for never. */
export const PEER_LAST_RECEIVED = 80;
