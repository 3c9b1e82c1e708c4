import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PEER_BYTES, PEER_IPV6 } from '../../../src/encap/forwarding/peer-record.js';
import { NO_VALUE } from '../../../src/encap/forwarding/prefix-table.js';
import { findSender, SenderSet, senderEntries } from '../../../src/encap/forwarding/sender-set.js';
import { putIpv6 } from '../../../src/linux/structs.js';

/** So few places that chains meet, wrap around and leave marks. */
function setOf(peers: number) {
  const entries = senderEntries(peers);
  const records = entries * 4;
  const wanted = records + peers * PEER_BYTES;
  const i32 = new Int32Array((wanted + 16) / 4);
  const u8 = new Uint8Array(i32.buffer);
  const set = new SenderSet(i32, 0, entries, records);
  return {
    entries,
    i32,
    put: (number: number, address: bigint) => putIpv6(u8, records + number * PEER_BYTES + PEER_IPV6, address),
    add: (number: number) => set.add(number),
    remove: (number: number, heir?: number) => set.remove(number, heir),
    find: (address: bigint) => {
      putIpv6(u8, wanted, address);
      return findSender(i32, 0, entries, records, wanted);
    },
  };
}

describe('SenderSet', () => {
  it.each([
    [1, 2],
    [2, 4],
    [3, 8],
    [65_536, 131_072],
  ])('has at least twice as many places as %i peers', (peers, places) => {
    expect(senderEntries(peers)).toBe(places);
  });

  it('gives the place of a peer to another one at the same address', () => {
    const set = setOf(4);
    for (const number of [0, 1]) set.put(number, 5n);
    set.add(0);
    set.remove(0, 1);
    expect(set.find(5n)).toBe(1);
    set.remove(0); // is in no place any more
    expect(set.find(5n)).toBe(1);
    set.remove(1);
    expect(set.find(5n)).toBe(NO_VALUE);
  });

  it.each([1, 2, 5, 16])('knows those that are in it and no others, %i peers that come and go', (peers) => {
    const addresses = fc.oneof(
      fc.bigInt({ min: 0n, max: 40n }),
      fc.bigInt({ min: 0n, max: 40n }).map((n) => n << 100n),
      fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }),
    );
    const step = fc.record({ number: fc.nat(peers - 1), address: addresses });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200, size: 'max' }), (steps) => {
        const set = setOf(peers);
        const known = new Map<number, bigint>();
        for (const { number, address } of steps) {
          if (known.has(number)) {
            set.remove(number);
            known.delete(number);
          } else if (![...known.values()].includes(address)) {
            set.put(number, address);
            set.add(number);
            known.set(number, address);
          }
          for (const [one, at] of known) expect(set.find(at)).toBe(one);
          if (![...known.values()].includes(address)) expect(set.find(address)).toBe(NO_VALUE);
        }
        for (const number of known.keys()) set.remove(number);
        // what is left are marks, none of which stands before a free place
        for (let i = 0; i < set.entries; i++) {
          expect(set.i32[i] === -1 && set.i32[(i + 1) % set.entries] === 0).toBe(false);
        }
      }),
      { numRuns: 300 },
    );
  });
});
