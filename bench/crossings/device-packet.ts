import type { RegionAllocator, SharedMemory } from '../../src/linux/memory.js';
import { IOVEC_BYTES, IOVEC_LENGTH } from '../../src/linux/structs.js';
import {
  VNET_CSUM_OFFSET,
  VNET_CSUM_START,
  VNET_F_NEEDS_CSUM,
  VNET_FLAGS,
  VNET_GSO_SIZE,
  VNET_GSO_TYPE,
  VNET_GSO_UDP_L4,
  VNET_HEADER_BYTES,
  VNET_HEADER_LENGTH,
} from '../../src/tun/virtio.js';
import { MTU } from './rig.js';

const LARGEST = 65_536;
const IP_UDP_HEADERS = 28;

/** The address and the number of an array of `struct iovec`: the last two arguments of readv and writev. */
export type Iovecs = readonly [address: number, count: number];

/** Packets at a TUN device, the virtio-net header first where the device has them. All share one buffer. */
export class DevicePacket {
  readonly #memory: SharedMemory;
  readonly #vnetHeader: boolean;
  readonly #vnet: number;
  readonly #packet: number;
  readonly #bad: number;
  readonly #regions: RegionAllocator;

  constructor(memory: SharedMemory, regions: RegionAllocator, vnetHeader: boolean) {
    this.#memory = memory;
    this.#regions = regions;
    this.#vnetHeader = vnetHeader;
    this.#vnet = regions.take(16);
    this.#packet = regions.take(LARGEST);
    this.#bad = this.#makeIovecs();
  }

  /** Room for a packet of so many bytes. */
  room(length: number): Iovecs {
    return this.#filled(this.#makeIovecs(), length);
  }

  /** Not even a header. */
  nothing(): Iovecs {
    const [address, count] = this.room(0);
    return [address + (count - 1) * IOVEC_BYTES, 1];
  }

  /**
   * An IPv4 packet that the kernel takes from the device, and drops when it sees the header checksum. Good until the
   * next read into the buffer, or the next call.
   */
  bad(length: number): Iovecs {
    const { u8, u16 } = this.#memory;
    u8.fill(0, this.#vnet, this.#vnet + VNET_HEADER_BYTES);
    u8.fill(0x5a, this.#packet, this.#packet + length);
    u8.set([0x45, 0, length >>> 8, length & 255, 0, 0, 0x40, 0, 64, 17, 0xde, 0xad], this.#packet);
    if (length > MTU) {
      u8[this.#vnet + VNET_FLAGS] = VNET_F_NEEDS_CSUM;
      u8[this.#vnet + VNET_GSO_TYPE] = VNET_GSO_UDP_L4;
      u16[(this.#vnet + VNET_HEADER_LENGTH) >>> 1] = IP_UDP_HEADERS;
      u16[(this.#vnet + VNET_GSO_SIZE) >>> 1] = MTU - IP_UDP_HEADERS;
      u16[(this.#vnet + VNET_CSUM_START) >>> 1] = 20;
      u16[(this.#vnet + VNET_CSUM_OFFSET) >>> 1] = 6;
    }
    return this.#filled(this.#bad, length);
  }

  #makeIovecs(): number {
    const at = this.#regions.take(2 * IOVEC_BYTES);
    this.#memory.setPointer(at, this.#vnet);
    this.#memory.u32[(at + IOVEC_LENGTH) >>> 2] = VNET_HEADER_BYTES;
    this.#memory.setPointer(at + IOVEC_BYTES, this.#packet);
    return at;
  }

  #filled(at: number, length: number): Iovecs {
    this.#memory.u32[(at + IOVEC_BYTES + IOVEC_LENGTH) >>> 2] = length;
    const skip = this.#vnetHeader ? 0 : 1;
    return [this.#memory.base + at + skip * IOVEC_BYTES, 2 - skip];
  }
}
