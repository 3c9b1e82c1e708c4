/** A DatagramBatch over a FakeKernel, fed with whole packets or with segments. */
import { DatagramBatch } from '../../../../src/encap/datapath/datagram-batch.js';
import { RegionAllocator } from '../../../../src/linux/memory.js';
import { payload } from './packets.js';
import { workbench } from './workbench.js';

/** Peer numbers: the order in which the workbench sets them. */
export const PEER_2 = 0;
export const PEER_3 = 1;

export interface TooLongReport {
  /** What fits into a datagram of its path. */
  readonly room: number;
  readonly bytes: Uint8Array;
}

/** @param pathMtu the MTU of the path to a peer; 0 when the kernel does not tell */
export function batchBench(maxSegments = 128, pathMtu: (peer: number) => number = () => 1500) {
  const bench = workbench({ maxSegments });
  const { memory, kernel, layout } = bench;
  const regions = new RegionAllocator(layout.tx);
  const reports: TooLongReport[] = [];
  const rooms: number[] = [];
  const batch = new DatagramBatch(
    bench.context,
    regions,
    {
      pathMtu,
      allowFragments: (_socket, allowed) => bench.fragments.push(allowed),
      awaitRoom: () => void rooms.push(kernel.sends.length),
    },
    (packet, available, room) => {
      reports.push({ room, bytes: memory.u8.slice(packet, packet + available) });
    },
  );
  let next = regions.take(64);
  const place = (bytes: Uint8Array): number => {
    const at = next;
    memory.u8.set(bytes, at);
    next += bytes.length;
    return at;
  };
  return {
    ...bench,
    batch,
    reports,
    /** After how many sends it waited for room, each time. */
    rooms,
    /** Adds a whole packet of `length` bytes and returns it. */
    add(length: number, peer = PEER_2, seed = 0): Uint8Array {
      const bytes = payload(length, seed);
      const at = place(bytes);
      batch.reserve(peer, length);
      batch.addPacket(at, length);
      return bytes;
    },
    /** Adds a segment whose headers lie in the batch's arena and whose payload lies apart. */
    addSegment(headerLength: number, payloadLength: number, peer = PEER_2, seed = 0): Uint8Array {
      const bytes = payload(headerLength + payloadLength, seed);
      const at = place(bytes.subarray(headerLength));
      const headers = batch.reserve(peer, bytes.length);
      memory.u8.set(bytes.subarray(0, headerLength), headers);
      batch.addSegment(headers, headerLength, at, payloadLength);
      return bytes;
    },
    lengths: (): number[][] => kernel.sent.map(({ datagrams }) => datagrams.map(({ length }) => length)),
  };
}
