import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_UDP_PAYLOAD } from '../../../src/encap/datapath/datagram-batch.js';
import { MSG_DONTWAIT } from '../../../src/linux/constants.js';
import { batchBench, PEER_2, PEER_3 } from './support/sending.js';
import { host, PORT } from './support/workbench.js';

describe('DatagramBatch', () => {
  it('sends nothing when it holds nothing', () => {
    const { batch, kernel } = batchBench();
    batch.flush();
    expect(kernel.sends).toEqual([]);
    expect(batch.empty).toBe(true);
  });

  it('sends one datagram plainly, to the address and port of its peer', () => {
    const { batch, kernel, add } = batchBench();
    const bytes = add(100, PEER_3);
    expect(batch.empty).toBe(false);
    batch.flush();
    expect(kernel.sent).toMatchObject([
      { address: host(3), port: PORT, datagrams: [bytes], segmentSize: 0, iovCount: 1, flags: MSG_DONTWAIT },
    ]);
    expect(batch.empty).toBe(true);
  });

  it('sends a run of equal datagrams in one call', () => {
    const { batch, kernel, add } = batchBench();
    const run = [1, 2, 3].map((seed) => add(100, PEER_2, seed));
    batch.flush();
    expect(kernel.sent).toMatchObject([{ address: host(2), datagrams: run, segmentSize: 100, iovCount: 3 }]);
  });

  it('sends headers of its own and payload in place as one datagram', () => {
    const { batch, kernel, addSegment } = batchBench();
    const run = [1, 2].map((seed) => addSegment(52, 1400, PEER_2, seed));
    batch.flush();
    expect(kernel.sent).toMatchObject([{ datagrams: run, segmentSize: 1452, iovCount: 4 }]);
  });

  it('lets the tail of one super-packet travel with the head of the next and with single packets', () => {
    const { batch, addSegment, add, lengths } = batchBench();
    for (const seed of [1, 2]) addSegment(40, 100, PEER_2, seed);
    for (const seed of [3, 4]) addSegment(52, 88, PEER_2, seed);
    add(140);
    batch.flush();
    expect(lengths()).toEqual([[140, 140, 140, 140, 140]]);
  });

  it.each<[string, readonly (readonly [length: number, peer: number])[], number[][]]>([
    [
      'a shorter datagram ends a run',
      [
        [100, PEER_2],
        [100, PEER_2],
        [60, PEER_2],
        [60, PEER_2],
      ],
      [[100, 100, 60], [60]],
    ],
    [
      'even a run of one is ended by a shorter datagram',
      [
        [100, PEER_2],
        [60, PEER_2],
        [100, PEER_2],
        [100, PEER_2],
      ],
      [
        [100, 60],
        [100, 100],
      ],
    ],
    [
      'a longer datagram starts a run',
      [
        [100, PEER_2],
        [101, PEER_2],
      ],
      [[100], [101]],
    ],
    [
      'another peer starts a run',
      [
        [100, PEER_2],
        [100, PEER_3],
        [100, PEER_2],
      ],
      [[100], [100], [100]],
    ],
  ])('%s', (_, list, expected) => {
    const { batch, add, lengths } = batchBench();
    for (const [length, peer] of list) add(length, peer);
    batch.flush();
    expect(lengths()).toEqual(expected);
  });

  it.each([
    [1, [1, 1, 1]],
    [2, [2, 1]],
    [3, [3]],
  ])('sends at most %i datagrams in a call when it is told so', (maxSegments, expected) => {
    const { batch, add, lengths } = batchBench(maxSegments);
    for (const seed of [1, 2, 3]) add(100, PEER_2, seed);
    batch.flush();
    expect(lengths().map(({ length }) => length)).toEqual(expected);
  });

  it('sends at most 128 datagrams in a call, whatever it is told', () => {
    const { batch, add, lengths } = batchBench(1000);
    for (let i = 0; i < 300; i++) add(30, PEER_2, i);
    batch.flush();
    expect(lengths().map(({ length }) => length)).toEqual([128, 128, 44]);
  });

  it('sends at most 65,507 bytes in a call', () => {
    const { batch, add, lengths } = batchBench();
    for (let i = 0; i < 47; i++) add(1400, PEER_2, i);
    batch.flush();
    expect(lengths().map(({ length }) => length)).toEqual([46, 1]);
    const exact = batchBench();
    for (let i = 0; i < 11; i++) exact.add(5955, PEER_2, i); // 11 × 5955 = 65,505
    exact.add(2, PEER_2);
    exact.batch.flush();
    expect(exact.lengths()).toEqual([[...Array(11).fill(5955), 2]]);
    const above = batchBench();
    for (let i = 0; i < 11; i++) above.add(5955, PEER_2, i);
    above.add(3, PEER_2);
    above.batch.flush();
    expect(above.lengths()).toEqual([Array(11).fill(5955), [3]]);
  });

  it('counts packets, bytes and sends, in total and for the peer', () => {
    const { batch, add, counted, peers } = batchBench();
    add(100, PEER_2);
    add(100, PEER_2);
    add(50, PEER_3);
    batch.flush();
    expect(counted('tx')).toEqual({ packets: 3, bytes: 250, sends: 2, segmented_sends: 1 });
    expect([...peers.table.entries()]).toMatchObject([
      { txPackets: 2, txBytes: 200 },
      { txPackets: 1, txBytes: 50 },
    ]);
  });

  it('sends any sequence of datagrams in order, each whole, once, and to its peer', () => {
    const item = fc.record({
      peer: fc.constantFrom(PEER_2, PEER_3),
      length: fc.oneof(fc.constantFrom(60, 100, 1400), fc.integer({ min: 41, max: 1500 })),
      split: fc.boolean(),
      flush: fc.integer({ min: 0, max: 9 }),
    });
    fc.assert(
      fc.property(
        fc.array(item, { maxLength: 80, size: 'max' }),
        fc.constantFrom(1, 2, 63, 128),
        (items, maxSegments) => {
          const { batch, kernel, add, addSegment } = batchBench(maxSegments);
          const expected = items.map(({ peer, length, split, flush }, i) => {
            const bytes = split ? addSegment(40, length - 40, peer, i) : add(length, peer, i);
            if (flush === 0) batch.flush();
            return { address: host(peer === PEER_2 ? 2 : 3), bytes };
          });
          batch.flush();
          const got = kernel.sends.flatMap(({ address, datagrams }) => datagrams.map((bytes) => ({ address, bytes })));
          expect(got.length).toBe(expected.length);
          got.forEach(({ address, bytes }, i) => {
            if (address !== expected[i]!.address || Buffer.compare(bytes, expected[i]!.bytes) !== 0)
              expect.fail(`${i}`);
          });
          for (const { datagrams } of kernel.sends) {
            const bytes = datagrams.reduce((sum, { length }) => sum + length, 0);
            expect(datagrams.length).toBeLessThanOrEqual(maxSegments);
            expect(bytes).toBeLessThanOrEqual(MAX_UDP_PAYLOAD);
          }
        },
      ),
      { numRuns: 150 },
    );
  });
});
