/** A piece of shared memory for tests of the parts that work on bytes only. */
import { createSum } from '../../../../src/encap/wire/checksum.js';
import { HEADER_STRIDE, Segmenter } from '../../../../src/encap/wire/segment.js';
import { RegionAllocator, SharedMemory } from '../../../../src/linux/memory.js';
import { concat, type Vnet } from './reference.js';

export function arena(bytes: number) {
  const memory = SharedMemory.create(bytes);
  const regions = new RegionAllocator();
  return { memory, regions, u8: memory.u8, sum: createSum(memory) };
}

/** The product's segmenter, used as simply as can be. */
export function splitter() {
  const { memory, regions, u8, sum } = arena(4 * 65_536);
  const segmenter = new Segmenter(memory, sum, regions.take(HEADER_STRIDE));
  const headers = regions.take(HEADER_STRIDE);
  const at = regions.take(70_000);
  const begin = (vnet: Vnet, packet: Uint8Array): boolean => {
    u8.set(packet, at);
    return segmenter.begin(at, packet.length, vnet.type, vnet.size, vnet.start);
  };
  return {
    segmenter,
    begin,
    /** The wire packets, or null when the super-packet is refused. */
    split(vnet: Vnet, packet: Uint8Array): Uint8Array[] | null {
      if (!begin(vnet, packet)) return null;
      return Array.from({ length: segmenter.count }, (_, i) => {
        u8.fill(0xee, headers, headers + HEADER_STRIDE);
        segmenter.emit(i, headers);
        const payload = segmenter.payloadAt(i);
        return concat(
          u8.subarray(headers, headers + segmenter.headerLength),
          u8.subarray(payload, payload + segmenter.payloadLength(i)),
        );
      });
    },
  };
}
