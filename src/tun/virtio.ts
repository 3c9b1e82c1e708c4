/**
 * The header that a TUN device with IFF_VNET_HDR puts before every packet, in both directions
 * (`struct virtio_net_hdr`, linux/virtio_net.h). Words are in host order, little-endian here.
 */

export const VNET_HEADER_BYTES = 10;

/** Where the fields stand in the header. `length` below means the headers' length and is not to be trusted on reads. */
export const VNET_FLAGS = 0;
export const VNET_GSO_TYPE = 1;
export const VNET_HEADER_LENGTH = 2;
export const VNET_GSO_SIZE = 4;
export const VNET_CSUM_START = 6;
export const VNET_CSUM_OFFSET = 8;

/** The checksum field holds the pseudo-header's sum only; whoever sends the packet on completes it. */
export const VNET_F_NEEDS_CSUM = 1;

export const VNET_GSO_NONE = 0;
export const VNET_GSO_TCPV4 = 1;
export const VNET_GSO_TCPV6 = 4;
/** UDP payload cut into datagrams (USO). Not the older type 3, which meant IP fragments. */
export const VNET_GSO_UDP_L4 = 5;
/** May be set on top of a TCP type: the first segment carries CWR. */
export const VNET_GSO_ECN = 0x80;
