import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BLOCK_BYTES } from '../../../src/linux/cipher.js';
import { createCopy } from '../../../src/linux/copy.js';
import { RegionAllocator, SharedMemory } from '../../../src/linux/memory.js';
import { createCipher } from '../../../src/linux/openssl.js';
import { KeySlots, SLOT_REST } from '../../../src/wireguard/key-slots.js';
import { Secret } from '../../../src/wireguard/keys.js';
import { MAILBOX_ENTRIES, Mailbox } from '../../../src/wireguard/mailbox.js';
import { Opener } from '../../../src/wireguard/opener.js';
import { PeerRecords, SOCKADDR_BYTES, writeSockaddr } from '../../../src/wireguard/peer-records.js';
import { paddedLength, Sealer } from '../../../src/wireguard/sealer.js';
import { StagedPackets } from '../../../src/wireguard/staged-packets.js';
import { OPEN_DROPS, readTransportDrops, SEAL_DROPS } from '../../../src/wireguard/transport-drops.js';
import { planTransport } from '../../../src/wireguard/transport-layout.js';
import { innerPacket, MTU, seeded } from '../../support/wireguard/host.js';
import { v4 } from '../../support/wireguard/network.js';

const SEND_KEY = new Uint8Array(32).fill(0x51);
const PEER = 3;
const ROOM = 8192;

/** One memory with a session to itself: what is sealed under it opens under it. */
function setUp(blocks = 128) {
  const memory = SharedMemory.create(4 << 20);
  const regions = new RegionAllocator();
  const layout = planTransport(regions, 8);
  const copy = createCopy(memory);
  let calls = 0;
  const call = () => {
    calls++;
  };
  const mailbox = new Mailbox(memory, layout.mailbox, copy);
  const sealer = new Sealer(memory, createCipher(memory, regions, blocks), copy, layout, MTU, call);
  const opener = new Opener(memory, createCipher(memory, regions, blocks), copy, layout, mailbox, call);
  const slots = new KeySlots(memory, layout.keys, seeded('slots'));
  const records = new PeerRecords(memory, layout.peers);
  const packet = regions.take(ROOM);
  const datagram = regions.take(ROOM);
  const name = regions.take(SOCKADDR_BYTES);
  writeSockaddr(memory.u8, name, v4(1));
  const index = slots.reserve(0)!;
  slots.install(index, PEER, index, { send: new Secret(SEND_KEY.slice()), receive: new Secret(SEND_KEY.slice()) });
  records.setSending(PEER, slots.slotOf(index));
  const { u8, f64 } = memory;
  return {
    memory,
    regions,
    copy,
    slots,
    records,
    sealer,
    opener,
    mailbox,
    index,
    packet,
    name,
    calls: () => calls,
    attend: () => Atomics.store(memory.i32, layout.attention >>> 2, 0),
    seal(bytes: Uint8Array, split = bytes.length): Uint8Array {
      u8.set(bytes, packet);
      const length = sealer.seal(PEER, packet, split, packet + split, bytes.length - split);
      return u8.slice(sealer.at, sealer.at + length);
    },
    open(bytes: Uint8Array, at = datagram): Uint8Array | null {
      u8.set(bytes, at);
      const length = opener.open(at, bytes.length, name);
      return length === 0 ? null : u8.slice(opener.at, opener.at + length);
    },
    datagram,
    drops: () =>
      Object.entries({
        ...readTransportDrops(f64, layout.sealDrops, SEAL_DROPS),
        ...readTransportDrops(f64, layout.openDrops, OPEN_DROPS),
      }).filter(([, count]) => count > 0),
  };
}

describe('transport messages', () => {
  it('have the layout of the paper, and open under another library', () => {
    const { seal, index } = setUp();
    for (let counter = 0; counter < 3; counter++) {
      const message = seal(innerPacket(counter, 45));
      const view = new DataView(message.buffer);
      expect(message.length).toBe(16 + 48 + 16);
      expect([view.getUint32(0, true), view.getUint32(4, true)]).toEqual([4, index]);
      expect(view.getBigUint64(8, true)).toBe(BigInt(counter));
      const nonce = new Uint8Array(12);
      nonce[4] = counter;
      const plain = chacha20poly1305(SEND_KEY, nonce).decrypt(message.subarray(16));
      expect([...plain]).toEqual([...innerPacket(counter, 45), 0, 0, 0]);
    }
  });

  it('bring every packet back, from any two pieces, to any place, until the arenas are reset', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 28, max: MTU }), fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(63)), {
          minLength: 1,
          maxLength: 20,
        }),
        (packets) => {
          const { seal, open, sealer, opener, datagram, memory, drops } = setUp(24 * 20);
          const sealed: { at: number; bytes: Uint8Array; plain: Uint8Array }[] = [];
          for (const [i, [length, split]] of packets.entries()) {
            const plain = innerPacket(i, length);
            for (let byte = 28; byte < length; byte++) plain[byte] = byte * 7 + i;
            expect(sealer.fits(length)).toBe(true);
            const bytes = seal(plain, Math.floor(split * length));
            expect(bytes.length).toBe(sealer.messageLength(length));
            sealed.push({ at: sealer.at, bytes, plain });
          }
          for (const { at, bytes } of sealed) expect(memory.u8.slice(at, at + bytes.length)).toEqual(bytes);
          const opened: { at: number; plain: Uint8Array }[] = [];
          for (const [i, { bytes, plain }] of sealed.entries()) {
            expect(opener.fits(bytes.length)).toBe(true);
            expect(open(bytes, datagram + packets[i][2])).toEqual(plain);
            expect(opener.peer).toBe(PEER);
            opened.push({ at: opener.at, plain });
          }
          for (const { at, plain } of opened) expect(memory.u8.slice(at, at + plain.length)).toEqual(plain);
          expect(drops()).toEqual([]);
        },
      ),
      { numRuns: 60 },
    );
  });

  it.each([
    [0, 0],
    [1, 16],
    [16, 16],
    [17, 32],
    [1400, 1408],
    [1408, 1408],
    [1409, 1420],
    [1420, 1420],
    [1500, 1500],
  ])('of %i bytes are padded to %i where the MTU is 1420', (length, padded) => {
    expect(paddedLength(length, 1420)).toBe(padded);
  });

  it('are refused room when the arena is full, and have it again after a reset', () => {
    const { seal, sealer, open, opener } = setUp(48);
    const first = seal(innerPacket(0, 1400));
    expect(sealer.fits(1400)).toBe(true);
    seal(innerPacket(1, 1400));
    expect(sealer.fits(1400)).toBe(false);
    sealer.reset();
    expect(sealer.fits(1400)).toBe(true);
    const second = seal(innerPacket(2, 1400));
    open(first);
    open(second);
    expect(opener.fits(1432)).toBe(false);
    opener.reset();
    expect(opener.fits(1432)).toBe(true);
    expect(48 * BLOCK_BYTES).toBeGreaterThan(2 * 1432);
  });

  it('that are empty are keepalives: counted apart, delivered to nobody', () => {
    const { seal, open, drops } = setUp();
    const keepalive = seal(new Uint8Array(0));
    expect(keepalive.length).toBe(32);
    expect(open(keepalive)).toBeNull();
    expect(drops()).toEqual([]);
  });

  it('whose inner packet is none are not delivered', () => {
    const { seal, open, drops } = setUp();
    const bad = [
      new Uint8Array(64), // version 0
      innerPacket(0, 64).map((byte, i) => (i === 3 ? 200 : byte)), // longer than what came
      innerPacket(0, 64).map((byte, i) => (i === 3 ? 19 : byte)), // shorter than a header
      Uint8Array.of(0x60, ...new Uint8Array(15)), // too short for IPv6
      Uint8Array.of(0x60, 0, 0, 0, 0, 200, ...new Uint8Array(58)),
    ];
    for (const packet of bad) expect(open(seal(packet))).toBeNull();
    expect(drops()).toEqual([['not_ip', bad.length]]);
    const v6 = Uint8Array.of(0x60, 0, 0, 0, 0, 5, ...new Uint8Array(39));
    expect(open(seal(v6))).toEqual(v6);
  });

  it('without a session call the control thread, once until it comes', () => {
    const { records, seal, calls, attend, drops } = setUp();
    records.setSending(PEER, -1);
    for (let i = 0; i < 5; i++) expect(seal(innerPacket(i))).toHaveLength(0);
    expect(calls()).toBe(1);
    attend();
    seal(innerPacket(5));
    expect(calls()).toBe(2);
    expect(drops()).toEqual([['no_key', 6]]);
  });

  it('do not open under a session that was given up, nor leave under it', () => {
    const { slots, seal, open, index, drops, memory } = setUp();
    const [before, after] = [seal(innerPacket(0)), seal(innerPacket(1))];
    expect(open(before)).not.toBeNull();
    slots.release(index, 0);
    expect(open(after)).toBeNull();
    expect(drops()).toEqual([['unknown_session', 1]]);
    // the slot is empty: an index of 0 is nobody's
    const forged = after.slice();
    new DataView(forged.buffer).setUint32(4, 0);
    expect(open(forged)).toBeNull();
    expect(memory.u8.length).toBeGreaterThan(0);
  });

  it('of a forwarder that has forgotten its key still leave and open: it takes the key anew', () => {
    const { seal, open, sealer, opener } = setUp();
    expect(open(seal(innerPacket(0)))).not.toBeNull();
    sealer.forget();
    opener.forget();
    expect(open(seal(innerPacket(1)))).not.toBeNull();
  });
});

describe('slots', () => {
  it('are named by different indices, and rest before they are used again', () => {
    const memory = SharedMemory.create(4 << 20);
    const layout = planTransport(new RegionAllocator(), 4);
    const slots = new KeySlots(memory, layout.keys, seeded('slots'));
    const indices = Array.from({ length: layout.keys.count }, () => slots.reserve(0)!);
    expect(new Set(indices.map((index) => slots.slotOf(index))).size).toBe(layout.keys.count);
    expect(indices.every((index) => index > 0 && Number.isInteger(index) && index < 2 ** 32)).toBe(true);
    expect(slots.reserve(0)).toBeUndefined();
    slots.release(indices[5], 100);
    slots.release(indices[2], 200);
    expect(slots.reserve(100 + SLOT_REST - 1)).toBeUndefined();
    expect(slots.slotOf(slots.reserve(100 + SLOT_REST)!)).toBe(slots.slotOf(indices[5]));
    expect(slots.reserve(100 + SLOT_REST)).toBeUndefined();
  });
});

describe('the mailbox', () => {
  it('hands messages over in order, and refuses what does not fit', () => {
    const { mailbox, memory, packet, name } = setUp();
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < MAILBOX_ENTRIES; i++) {
        memory.u8.fill(i, packet, packet + 148);
        expect(mailbox.put(packet, i % 2 === 0 ? 148 : 92, name)).toBe(true);
      }
      expect(mailbox.put(packet, 64, name)).toBe(false);
      expect(mailbox.waiting).toBe(MAILBOX_ENTRIES);
      for (let i = 0; i < MAILBOX_ENTRIES; i++) {
        const { message, from } = mailbox.take()!;
        expect([message.length, message[0], message.at(-1), from]).toEqual([i % 2 === 0 ? 148 : 92, i, i, v4(1)]);
      }
      expect(mailbox.take()).toBeUndefined();
    }
    expect(mailbox.put(packet, 149, name)).toBe(false);
  });
});

describe('staged packets', () => {
  it('leave in order when their peer is ready; the oldest of a peer makes room for its next', () => {
    const { regions, copy, memory, packet } = setUp();
    const staged = new StagedPackets(regions, copy, MTU);
    const add = (peer: number, number: number, length = 28) => {
      memory.u8.set(innerPacket(number, length), packet);
      staged.add(peer, 0, packet, 20, packet + 20, length - 20);
    };
    const release = (...ready: number[]) => {
      const out: [number, number][] = [];
      staged.release(
        (peer) => ready.includes(peer),
        (peer, at, length) => out.push([peer, memory.view.getUint32(at + 20) + (length - 28) * 1000]),
      );
      return out;
    };
    for (let i = 0; i < 136; i++) add(1, i);
    add(2, 100, 29);
    expect([staged.count, staged.dropped]).toEqual([129, 8]);
    expect(release(3)).toEqual([]);
    expect(release(2)).toEqual([[2, 1100]]);
    expect(release(1, 2)).toEqual(Array.from({ length: 128 }, (_, i) => [1, i + 8]));
    expect(staged.count).toBe(0);
    for (let peer = 0; peer < 600; peer++) add(peer, peer);
    expect([staged.count, staged.dropped]).toEqual([512, 8 + 88]);
    staged.discard((peer) => (peer === 7 ? 1 : 0));
    expect([staged.count, staged.dropped]).toEqual([511, 97]);
    add(599, 1);
    expect(release(599)).toEqual([[599, 1]]);
    add(1, 1, MTU + 100);
    expect(staged.dropped).toBe(98);
  });

  it.each([9_000, 65_535])('have a bounded memory where the MTU is %i', (mtu) => {
    const { copy } = setUp();
    const regions = new RegionAllocator();
    new StagedPackets(regions, copy, mtu);
    expect(regions.used).toBeLessThanOrEqual((2 << 20) + 4096);
  });
});
