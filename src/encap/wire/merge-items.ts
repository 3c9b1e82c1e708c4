/**
 * What a merger has gathered: items, each one packet or several of a flow, as lists of iovecs ready to be written.
 *
 * An item that never grew is its packet, untouched. One that grew is its first packet with the payloads of the others
 * behind it; `finish` turns the first packet's headers into those of the whole, `restore` turns them back.
 */
import type { RegionAllocator, SharedMemory } from '../../linux/memory.js';
import { IOVEC_BYTES, IOVEC_LENGTH } from '../../linux/structs.js';
import {
  VNET_CSUM_OFFSET,
  VNET_CSUM_START,
  VNET_F_NEEDS_CSUM,
  VNET_FLAGS,
  VNET_GSO_SIZE,
  VNET_GSO_TCPV4,
  VNET_GSO_TCPV6,
  VNET_GSO_TYPE,
  VNET_GSO_UDP_L4,
  VNET_HEADER_BYTES,
  VNET_HEADER_LENGTH,
} from '../../tun/virtio.js';
import { headerSum, loadSum, pseudoHeaderSum, storeSum } from './checksum.js';
import {
  get16,
  IPV4_CHECKSUM,
  IPV4_ID,
  IPV4_TOTAL_LENGTH,
  IPV6_HEADER,
  IPV6_PAYLOAD_LENGTH,
  PROTOCOL_TCP,
  put16,
  TCP_CHECKSUM,
  TCP_FLAGS,
  TCP_PSH,
  UDP_CHECKSUM,
  UDP_LENGTH,
} from './headers.js';

/** Items that fit before they have to be written. */
export const MAX_ITEMS = 512;
/** Segments that one item may hold. */
export const MAX_MERGED = 64;
/** Bytes between two virtio-net headers. */
const VNET_STRIDE = 16;
/** virtio-net header, the first packet whole, then the payloads of the others. */
const IOVECS_PER_ITEM = 2 + MAX_MERGED;

/** Owned by one thread; nothing is allocated after construction. */
export class ItemList {
  readonly #memory: SharedMemory;
  readonly #iov: number;
  readonly #vnet: number;
  /** Per item, by its number: where its first packet lies, how long it was, and how the item has grown. */
  readonly packets = new Int32Array(MAX_ITEMS);
  readonly packetLengths = new Int32Array(MAX_ITEMS);
  readonly protocols = new Uint8Array(MAX_ITEMS);
  readonly ipLengths = new Int32Array(MAX_ITEMS);
  readonly headerLengths = new Int32Array(MAX_ITEMS);
  readonly segmentSizes = new Int32Array(MAX_ITEMS);
  readonly totals = new Int32Array(MAX_ITEMS);
  /** How many of the added packets an item holds. */
  readonly segmentCount = new Int32Array(MAX_ITEMS);
  readonly lastIds = new Int32Array(MAX_ITEMS);
  readonly verified = new Uint8Array(MAX_ITEMS);
  readonly closed = new Uint8Array(MAX_ITEMS);
  readonly #push = new Uint8Array(MAX_ITEMS);
  /** What `finish` overwrote in a first packet, for `restore`. */
  readonly #savedIpChecksum = new Int32Array(MAX_ITEMS);
  readonly #savedChecksum = new Int32Array(MAX_ITEMS);
  readonly #savedFlags = new Int32Array(MAX_ITEMS);

  /** Items gathered so far. */
  count = 0;

  constructor(memory: SharedMemory, regions: RegionAllocator) {
    this.#memory = memory;
    this.#iov = regions.take(MAX_ITEMS * IOVECS_PER_ITEM * IOVEC_BYTES);
    this.#vnet = regions.take(MAX_ITEMS * VNET_STRIDE);
    for (let item = 0; item < MAX_ITEMS; item++) {
      const iovec = this.iov(item);
      memory.setPointer(iovec, this.#vnet + item * VNET_STRIDE);
      memory.u32[(iovec + IOVEC_LENGTH) >>> 2] = VNET_HEADER_BYTES;
    }
  }

  get full(): boolean {
    return this.count === MAX_ITEMS;
  }

  /** Offset of the item's iovecs: first its virtio-net header, then its bytes. */
  iov(item: number): number {
    return this.#iov + item * IOVECS_PER_ITEM * IOVEC_BYTES;
  }

  /** How many iovecs that are, the virtio-net header included. */
  iovCount(item: number): number {
    return 1 + this.segmentCount[item];
  }

  /** Makes the packet an item of its own. @param closed nothing may join it */
  seed(
    packet: number,
    length: number,
    protocol: number,
    ipLength: number,
    headerLength: number,
    closed: boolean,
  ): number {
    const item = this.count++;
    this.protocols[item] = protocol;
    this.packets[item] = packet;
    this.packetLengths[item] = length;
    this.ipLengths[item] = ipLength;
    this.headerLengths[item] = headerLength;
    this.segmentSizes[item] = length - headerLength;
    this.totals[item] = length;
    this.segmentCount[item] = 1;
    this.verified[item] = 0;
    this.closed[item] = closed ? 1 : 0;
    this.#push[item] = 0;
    this.lastIds[item] = get16(this.#memory.view, packet + IPV4_ID);
    const iovec = this.iov(item) + IOVEC_BYTES;
    this.#memory.setPointer(iovec, packet);
    this.#memory.u32[(iovec + IOVEC_LENGTH) >>> 2] = length;
    this.#clearVnet(item);
    return item;
  }

  /** Puts the packet behind those that the item has. */
  append(item: number, packet: number, length: number, headerLength: number, push: boolean): void {
    const payload = length - headerLength;
    const iovec = this.iov(item) + (1 + this.segmentCount[item]) * IOVEC_BYTES;
    this.#memory.setPointer(iovec, packet + headerLength);
    this.#memory.u32[(iovec + IOVEC_LENGTH) >>> 2] = payload;
    this.segmentCount[item]++;
    this.totals[item] += payload;
    this.lastIds[item] = get16(this.#memory.view, packet + IPV4_ID);
    if (push) this.#push[item] = 1;
    if (push || payload < this.segmentSizes[item]) this.closed[item] = 1;
  }

  /** Writes the headers of an item that has grown. Called once for each item, before it is written. */
  finish(item: number): void {
    if (this.segmentCount[item] === 1) return;
    const { u8, u16, view } = this.#memory;
    const packet = this.packets[item];
    const ipLength = this.ipLengths[item];
    const transport = packet + ipLength;
    const total = this.totals[item];
    const transportLength = total - ipLength;
    const version = ipLength === IPV6_HEADER ? 6 : 4;
    const tcp = this.isTcp(item);
    const checksum = transport + (tcp ? TCP_CHECKSUM : UDP_CHECKSUM);

    this.#savedChecksum[item] = loadSum(view, checksum);
    this.#savedFlags[item] = u8[transport + TCP_FLAGS];
    if (version === 4) {
      this.#savedIpChecksum[item] = loadSum(view, packet + IPV4_CHECKSUM);
      put16(view, packet + IPV4_TOTAL_LENGTH, total);
      put16(view, packet + IPV4_CHECKSUM, 0);
      storeSum(view, packet + IPV4_CHECKSUM, ~headerSum(view, packet, ipLength, 0));
    } else put16(view, packet + IPV6_PAYLOAD_LENGTH, total - IPV6_HEADER);
    if (tcp) u8[transport + TCP_FLAGS] |= this.#push[item] !== 0 ? TCP_PSH : 0;
    else put16(view, transport + UDP_LENGTH, transportLength);
    storeSum(view, checksum, pseudoHeaderSum(view, packet, version, this.protocols[item], transportLength));
    const vnet = this.#vnet + item * VNET_STRIDE;
    u8[vnet + VNET_FLAGS] = VNET_F_NEEDS_CSUM;
    u8[vnet + VNET_GSO_TYPE] = tcp ? (version === 4 ? VNET_GSO_TCPV4 : VNET_GSO_TCPV6) : VNET_GSO_UDP_L4;
    u16[(vnet + VNET_HEADER_LENGTH) >>> 1] = this.headerLengths[item];
    u16[(vnet + VNET_GSO_SIZE) >>> 1] = this.segmentSizes[item];
    u16[(vnet + VNET_CSUM_START) >>> 1] = ipLength;
    u16[(vnet + VNET_CSUM_OFFSET) >>> 1] = tcp ? TCP_CHECKSUM : UDP_CHECKSUM;
  }

  /** Undoes `finish`: every packet of the item lies in memory again as it was added. */
  restore(item: number): void {
    if (this.segmentCount[item] === 1) return;
    const { u8, view } = this.#memory;
    const packet = this.packets[item];
    const transport = packet + this.ipLengths[item];
    const tcp = this.isTcp(item);
    if (this.ipLengths[item] !== IPV6_HEADER) {
      put16(view, packet + IPV4_TOTAL_LENGTH, this.packetLengths[item]);
      storeSum(view, packet + IPV4_CHECKSUM, this.#savedIpChecksum[item]);
    } else put16(view, packet + IPV6_PAYLOAD_LENGTH, this.packetLengths[item] - IPV6_HEADER);
    if (tcp) u8[transport + TCP_FLAGS] = this.#savedFlags[item];
    else put16(view, transport + UDP_LENGTH, this.packetLengths[item] - this.ipLengths[item]);
    storeSum(view, transport + (tcp ? TCP_CHECKSUM : UDP_CHECKSUM), this.#savedChecksum[item]);
  }

  /** After `restore`: offset of packet `segment` of the item. */
  packetAt(item: number, segment: number): number {
    if (segment === 0) return this.packets[item];
    const iovec = this.iov(item) + (1 + segment) * IOVEC_BYTES;
    const { u32, base } = this.#memory;
    const payload = u32[(iovec + 4) >>> 2] * 4_294_967_296 + u32[iovec >>> 2] - base;
    return payload - this.headerLengths[item];
  }

  /** Length of packet `segment` of the item, as it was added. */
  packetLength(item: number, segment: number): number {
    if (segment === 0) return this.packetLengths[item];
    const iovec = this.iov(item) + (1 + segment) * IOVEC_BYTES;
    return this.#memory.u32[(iovec + IOVEC_LENGTH) >>> 2] + this.headerLengths[item];
  }

  isTcp(item: number): boolean {
    return this.protocols[item] === PROTOCOL_TCP;
  }

  /** All zeros: the packet is as the kernel gets it from a device without offloads. */
  #clearVnet(item: number): void {
    const at = this.#vnet + item * VNET_STRIDE;
    const { i32, u16 } = this.#memory;
    i32[at >>> 2] = 0;
    i32[(at >>> 2) + 1] = 0;
    u16[(at >>> 1) + 4] = 0;
  }
}
