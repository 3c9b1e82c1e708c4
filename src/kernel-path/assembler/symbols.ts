/** What programs call by name: the kernel's helpers and the fields of their context (linux/bpf.h). */

/** The helpers: their numbers, and how many arguments each takes. */
export const HELPERS = {
  map_lookup_elem: { number: 1, takes: 2 },
  map_update_elem: { number: 2, takes: 4 },
  map_delete_elem: { number: 3, takes: 2 },
  ktime_get_ns: { number: 5, takes: 0 },
  skb_store_bytes: { number: 9, takes: 5 },
  redirect: { number: 23, takes: 2 },
  skb_change_type: { number: 32, takes: 2 },
  skb_pull_data: { number: 39, takes: 2 },
  set_hash_invalid: { number: 41, takes: 1 },
  skb_change_head: { number: 43, takes: 3 },
  skb_adjust_room: { number: 50, takes: 4 },
  probe_read_kernel: { number: 113, takes: 3 },
  csum_level: { number: 135, takes: 2 },
  redirect_neigh: { number: 152, takes: 4 },
  redirect_peer: { number: 155, takes: 2 },
} as const;
export type Helper = keyof typeof HELPERS;

/** A field of the context: where it stands, how many bytes it has, and whether a program may store to it. */
interface Field {
  readonly offset: number;
  readonly size: 4 | 8;
  readonly writable?: true;
}
export type Context = Readonly<Record<string, Field>>;

/** `struct __sk_buff`, of which a program of tc sees the kernel's packet. */
export const SK_BUFF = {
  len: { offset: 0, size: 4 },
  pkt_type: { offset: 4, size: 4 },
  mark: { offset: 8, size: 4, writable: true },
  protocol: { offset: 16, size: 4 },
  vlan_present: { offset: 20, size: 4 },
  ingress_ifindex: { offset: 36, size: 4 },
  ifindex: { offset: 40, size: 4 },
  data: { offset: 76, size: 4 },
  data_end: { offset: 80, size: 4 },
  gso_size: { offset: 176, size: 4 },
} as const satisfies Context;
/** Bytes of `struct __sk_buff`, of which a test run may be given and returns a copy. */
export const SK_BUFF_BYTES = 192;

/** What a program of tc may return (linux/pkt_cls.h): no opinion, so the next program or filter has its turn. */
export const TC_ACT_UNSPEC = -1;
export const TC_ACT_SHOT = 2;
/** Returned by the redirecting helpers, and by the program after them. */
export const TC_ACT_REDIRECT = 7;

/** `skb_adjust_room`: make room behind the MAC header. */
export const ADJ_ROOM_MAC = 1;
/** Flags of `skb_adjust_room`. */
export const ADJ_ROOM_FIXED_GSO = 1 << 0;
export const ADJ_ROOM_ENCAP_L3_IPV4 = 1 << 1;
export const ADJ_ROOM_ENCAP_L4_UDP = 1 << 4;

/** Flag of `redirect`: as if the packet had come in by that device. */
export const REDIRECT_INGRESS = 1;
/** Argument of `csum_level`: only tell. */
export const CSUM_LEVEL_QUERY = 0;

/** Packet types (linux/if_packet.h): addressed to this host. */
export const PACKET_HOST = 0;
