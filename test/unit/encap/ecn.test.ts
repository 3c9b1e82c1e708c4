import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { DatagramBatch } from '../../../src/encap/datapath/datagram-batch.js';
import { ReceiveSlots } from '../../../src/encap/datapath/receive-slots.js';
import { openUdpSocket } from '../../../src/encap/datapath/udp-socket.js';
import { markCongestion, outerEcn } from '../../../src/encap/wire/ecn.js';
import { EADDRINUSE } from '../../../src/linux/constants.js';
import { SystemCallError } from '../../../src/linux/errno.js';
import { control, syscalls } from '../../../src/linux/libc.js';
import { RegionAllocator } from '../../../src/linux/memory.js';
import { altered, fixHeaderChecksum, payload, udp } from './support/packets.js';
import { PEER_2 } from './support/sending.js';
import { address, subnet, workbench } from './support/workbench.js';

const ipv4 = fc
  .record({ tos: fc.nat(255), sourcePort: fc.integer({ min: 1, max: 65_535 }), id: fc.nat(65_535) })
  .map(({ tos, ...fields }) => fixHeaderChecksum(altered(udp({ ...fields, payload: payload(8) }), { 1: tos })));
const ipv6 = fc
  .uint8Array({ minLength: 40, maxLength: 40 })
  .map((bytes) => altered(bytes, { 0: 0x60 | (bytes[0]! & 15) }));

describe('ECN bits', () => {
  it('outside are those inside, and ECT(0) for a packet that is marked', () => {
    fc.assert(
      fc.property(ipv4, (packet) => {
        expect(outerEcn(packet, 0)).toBe([0, 1, 2, 2][packet[1]! & 3]);
      }),
    );
    fc.assert(
      fc.property(ipv6, (packet) => {
        expect(outerEcn(packet, 0)).toBe([0, 1, 2, 2][(packet[1]! >>> 4) & 3]);
      }),
    );
  });

  it('inside become a mark where there are some, and the header checksum stays right', () => {
    fc.assert(
      fc.property(ipv4, (packet) => {
        const marked = packet.slice();
        markCongestion(marked, 0);
        const tos = (packet[1]! & 3) === 0 ? packet[1]! : packet[1]! | 3;
        expect(marked).toEqual(fixHeaderChecksum(altered(packet, { 1: tos })));
      }),
      { numRuns: 2_000 },
    );
    fc.assert(
      fc.property(ipv6, (packet) => {
        const marked = packet.slice();
        markCongestion(marked, 0);
        expect(marked).toEqual(altered(packet, { 1: (packet[1]! & 0x30) === 0 ? packet[1]! : packet[1]! | 0x30 }));
      }),
    );
  });
});

describe('through real sockets', () => {
  const open: number[] = [];
  afterEach(() => {
    for (const fd of open.splice(0)) control.close(fd);
  });

  function socketOf(of: string, port: number, ecn: boolean): number {
    const options = { gso: 'auto', gro: 'auto', buffer: 1 << 20 } as const;
    const { fd } = openUdpSocket({ address: address(of), port, ecn, ...options });
    open.push(fd);
    return fd;
  }

  /** Both have the same port, as hosts have. */
  function pair(): readonly [port: number, receiver: number, sender: number] {
    for (;;) {
      const port = 20_000 + Math.floor(Math.random() * 40_000);
      try {
        return [port, socketOf('127.0.0.1', port, true), socketOf('127.0.0.2', port, false)];
      } catch (error) {
        if (!(error instanceof SystemCallError) || error.errno !== EADDRINUSE) throw error;
      }
    }
  }

  it.each([1, 5])('they leave with %i datagrams in a send, and are told with what comes', (count) => {
    const [port, receiver, socket] = pair();
    const bench = workbench({ port });
    bench.peers.set(subnet(2), address('127.0.0.1'));
    const context = { ...bench.context, sys: syscalls, options: { ...bench.options, socket } };
    const outlet = { pathMtu: () => 0, allowFragments: () => {}, awaitRoom: () => {} };
    const regions = new RegionAllocator(bench.layout.tx);
    const batch = new DatagramBatch(context, regions, outlet, () => {});
    const at = regions.take(64);
    const slots = new ReceiveSlots(context, new RegionAllocator(bench.layout.rx), 4, receiver);
    for (const ecn of [2, 3, 0, 3]) {
      for (let i = 0; i < count; i++) {
        batch.reserve(PEER_2, 64, ecn);
        batch.addPacket(at, 64);
      }
      batch.flush();
      for (let received = 0; received < count * 64; ) {
        const messages = slots.receive();
        expect(messages).toBeGreaterThan(0);
        for (let slot = 0; slot < messages; slot++) {
          expect(slots.isCongested(slot)).toBe(ecn === 3);
          expect(slots.runLength(slot, slots.length(slot))).toBe(64);
          received += slots.length(slot);
          slots.prepare(slot);
        }
      }
    }
  });
});
