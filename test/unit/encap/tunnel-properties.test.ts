import fc from 'fast-check';
import { expect, it } from 'vitest';
import { EINVAL, EIO } from '../../../src/linux/constants.js';
import type { Arrival } from './support/fake-kernel.js';
import {
  altered,
  corrupted,
  fixHeaderChecksum,
  type Offloaded,
  offloaded,
  payload,
  tcp,
  udp,
} from './support/packets.js';
import { datagram, delivered, run } from './support/receiving.js';
import { faults, NO_OFFLOAD, parse } from './support/reference.js';
import { host, subnet, workbench } from './support/workbench.js';

const ends = { source: [2, 2], destination: [1, 2] } as const;

/** What the sending host's TUN hands over. Every flow sends its payload in order; ids count as a kernel counts them. */
const reads: fc.Arbitrary<Offloaded[]> = fc
  .array(
    fc.record({
      isTcp: fc.boolean(),
      sourcePort: fc.constantFrom(1, 2, 3),
      length: fc.integer({ min: 0, max: 3000 }),
      size: fc.constantFrom(0, 100, 512),
      fragment: fc.constantFrom(0, 0x4000),
    }),
    { minLength: 1, maxLength: 12, size: 'max' },
  )
  .map((list) => {
    const sent = new Map<number, number>();
    let id = 65_500;
    return list.map(({ isTcp, sourcePort, length, size, fragment }, i) => {
      const sequence = sent.get(sourcePort) ?? 2 ** 32 - 2000;
      const fields = { ...ends, sourcePort, payload: payload(length, i), id: id % 65_536, fragment };
      id += size === 0 ? 1 : Math.max(1, Math.ceil(length / size));
      if (isTcp) sent.set(sourcePort, (sequence + length) % 2 ** 32);
      const whole = isTcp ? tcp({ ...fields, sequence }) : udp(fields);
      return length > size && size > 0 ? offloaded(whole, size) : { vnet: NO_OFFLOAD, packet: whole };
    });
  });

/** What happens to datagram number `at` (counted round): it is lost, doubled, moved to the front, or has a bit turned. */
const mishaps = fc.array(fc.record({ kind: fc.constantFrom('lose', 'double', 'hurry', 'corrupt'), at: fc.nat(200) }), {
  maxLength: 8,
  size: 'max',
});

function underlay(sent: readonly Uint8Array[], accidents: readonly { kind: string; at: number }[]): Uint8Array[] {
  const list = [...sent];
  for (const { kind, at } of accidents) {
    if (list.length === 0) return list;
    const i = at % list.length;
    if (kind === 'lose') list.splice(i, 1);
    else if (kind === 'double') list.splice(i, 0, list[i]!);
    else if (kind === 'hurry') list.unshift(...list.splice(i, 1));
    else if (parse(list[i]!).transport.length > 8) list[i] = corrupted(list[i]!);
  }
  return list;
}

/** As UDP_GRO would hand them over: neighbours of equal length in one run, the last may be shorter. */
function coalesce(datagrams: readonly Uint8Array[]): Arrival[] {
  const arrivals: Arrival[] = [];
  for (let i = 0; i < datagrams.length; ) {
    const { length } = datagrams[i]!;
    let end = i + 1;
    while (end < datagrams.length && end - i < 60 && datagrams[end]!.length === length) end++;
    if (end < datagrams.length && datagrams[end]!.length < length) end++;
    arrivals.push(end - i > 1 ? run(datagrams.slice(i, end)) : datagram(datagrams[i]!));
    i = end;
  }
  return arrivals;
}

/** Without what a merge may change of a packet that must not be fragmented, and what a hop changes of all. */
function essence(packet: Uint8Array): string {
  const idle = parse(packet).fragment === 0x4000 ? { 4: 0, 5: 0 } : {};
  return Buffer.from(altered(packet, { 8: 0, 10: 0, 11: 0, ...idle })).toString('latin1');
}

function flowOf(packet: Uint8Array): string {
  const { protocol, sourcePort, payload: data } = parse(packet);
  return data.length === 0 ? 'empty' : `${protocol} ${sourcePort}`;
}

it('a tunnel delivers what arrives of what was sent: every packet once, in the order of its flow, the corrupt ones as such', () => {
  fc.assert(
    fc.property(
      reads,
      mishaps,
      fc.record({ gro: fc.boolean(), slots: fc.constantFrom(1, 3, 64), maxSegments: fc.constantFrom(1, 5, 128) }),
      fc.record({ sendsFrom: fc.nat(30), writesFrom: fc.nat(30) }),
      (handed, accidents, { gro, slots, maxSegments }, refusals) => {
        const bench = workbench({ receiveSlots: slots, maxSegments });
        bench.peers.set(subnet(1), host(1));
        // from some point on the sender's kernel refuses to segment, and the receiver's refuses merged packets
        bench.kernel.onSend = ({ segmentSize }, i) => (segmentSize > 0 && i >= refusals.sendsFrom ? EIO : 0);
        bench.kernel.onWrite = ({ vnet }, i) => (vnet.type !== 0 && i >= refusals.writesFrom ? EINVAL : 0);
        bench.kernel.tunReads.push(...handed);
        bench.tx().turn();
        const arrived = underlay(bench.kernel.datagrams, accidents);
        bench.kernel.arrivals.push(...(gro ? coalesce(arrived) : arrived.map((bytes) => datagram(bytes))));
        const rx = bench.rx();
        while (bench.kernel.arrivals.length > 0) rx.turn();

        const got = delivered(bench);
        const older = arrived.map((packet) => fixHeaderChecksum(altered(packet, { 8: packet[8]! - 1 })));
        expect(got.map(essence).sort()).toEqual(older.map(essence).sort());
        expect(
          got
            .filter((packet) => faults(packet).length > 0)
            .map(essence)
            .sort(),
        ).toEqual(
          older
            .filter((packet) => faults(packet).length > 0)
            .map(essence)
            .sort(),
        );
        for (const flow of new Set(older.map(flowOf))) {
          if (flow === 'empty') continue;
          const ofFlow = (packets: readonly Uint8Array[]) =>
            packets.filter((packet) => flowOf(packet) === flow).map(essence);
          expect(ofFlow(got)).toEqual(ofFlow(older));
        }
        expect([bench.dropped('tx'), bench.dropped('rx')]).toEqual([{}, {}]);
      },
    ),
    { numRuns: 400 },
  );
});
