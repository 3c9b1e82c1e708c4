import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { formatIpv4, type Prefix } from '../../../src/base/ipv4.js';
import {
  PEER_BYTES,
  PEER_RX_PACKETS,
  PEER_SOCKADDR,
  PeersFullError,
  PeerTable,
} from '../../../src/encap/forwarding/forwarding-table.js';
import {
  NO_VALUE,
  PrefixTable,
  PrefixTableFullError,
  prefixTableBytes,
} from '../../../src/encap/forwarding/prefix-table.js';
import { RegionAllocator, SharedMemory } from '../../../src/linux/memory.js';
import { address, prefix } from './support/workbench.js';

const NODES = 64;
const CAPACITY = 4;
const regions = new RegionAllocator();
const records = regions.take(CAPACITY * PEER_BYTES);
const subnetsAt = regions.take(prefixTableBytes(NODES));
const sendersAt = regions.take(prefixTableBytes(NODES));
const memory = SharedMemory.create(regions.used);

let subnets: PrefixTable;
let senders: PrefixTable;
let peers: PeerTable;
beforeEach(() => {
  memory.u8.fill(0);
  subnets = new PrefixTable(memory.i32, subnetsAt >>> 2, NODES, prefix('10.5.0.0/16'));
  senders = new PrefixTable(memory.i32, sendersAt >>> 2, NODES, prefix('0.0.0.0/0'));
  peers = new PeerTable(memory, records, CAPACITY, 8285, subnets, senders);
});

const NET = (n: number): Prefix => prefix(`10.5.${n}.0/24`);
const A = address('192.0.2.1');
const B = address('192.0.2.2');
const C = address('198.51.100.200');

/** Where a datagram for this inner address would go, as a forwarder reads it. */
function target(inner: string): string | null {
  const index = subnets.lookup(address(inner));
  if (index === NO_VALUE) return null;
  const at = records + index * PEER_BYTES + PEER_SOCKADDR;
  const view = new DataView(memory.memory.buffer, at);
  expect(view.getUint16(0, true)).toBe(2);
  return `${formatIpv4(view.getUint32(4))}:${view.getUint16(2)}`;
}

const knows = (sender: number) => senders.lookup(sender) !== NO_VALUE;
const bump = (inner: string, packets: number) => {
  memory.f64[(records + subnets.lookup(address(inner)) * PEER_BYTES + PEER_RX_PACKETS) >>> 3]! += packets;
};

describe('PeerTable', () => {
  it('leads from a subnet to the address of its host, and knows the host as a sender', () => {
    peers.set(NET(2), A);
    expect(target('10.5.2.77')).toBe('192.0.2.1:8285');
    expect(target('10.5.3.77')).toBeNull();
    expect([knows(A), knows(B)]).toEqual([true, false]);
    expect([...peers.entries()]).toEqual([
      { subnet: NET(2), publicIp: A, txPackets: 0, txBytes: 0, rxPackets: 0, rxBytes: 0, lastReceived: null },
    ]);
  });

  it('moves a peer to another address: its counters go on, its old address is a stranger', () => {
    peers.set(NET(2), A);
    bump('10.5.2.1', 5);
    peers.set(NET(2), C);
    expect(target('10.5.2.1')).toBe('198.51.100.200:8285');
    expect([knows(A), knows(C)]).toEqual([false, true]);
    expect([...peers.entries()]).toMatchObject([{ publicIp: C, rxPackets: 5 }]);
    expect(peers.size).toBe(1);
  });

  it('keeps an address known while one of several leases names it', () => {
    peers.set(NET(2), A);
    peers.set(NET(3), A);
    peers.delete(NET(2));
    expect(knows(A)).toBe(true);
    peers.set(NET(3), B);
    expect([knows(A), knows(B)]).toEqual([false, true]);
  });

  it('changes nothing when it is told the same again', () => {
    peers.set(NET(2), A);
    peers.set(NET(2), A);
    peers.delete(NET(2));
    expect(knows(A)).toBe(false);
    expect(peers.size).toBe(0);
  });

  it('forgets a peer that is deleted, and ignores one that it never knew', () => {
    peers.set(NET(2), A);
    peers.delete(NET(9));
    peers.delete(prefix('10.5.2.0/25'));
    expect(target('10.5.2.1')).toBe('192.0.2.1:8285');
    peers.delete(NET(2));
    expect(target('10.5.2.1')).toBeNull();
    expect([...peers.entries()]).toEqual([]);
  });

  it('starts from zero when a subnet comes back', () => {
    peers.set(NET(2), A);
    bump('10.5.2.1', 5);
    peers.delete(NET(2));
    peers.set(NET(2), A);
    expect([...peers.entries()]).toMatchObject([{ rxPackets: 0 }]);
  });

  it('lets a number rest as long as possible before it gives it to another peer', () => {
    for (const n of [1, 2]) peers.set(NET(n), A);
    peers.delete(NET(1));
    peers.delete(NET(2));
    const numbers = [3, 4, 5, 6].map((n) => {
      peers.set(NET(n), B);
      return subnets.lookup(NET(n).address);
    });
    expect(numbers).toEqual([2, 3, 0, 1]);
    expect([...peers.entries()].every(({ rxPackets }) => rxPackets === 0)).toBe(true);
  });

  it('refuses a peer too many, keeps the others, and takes it when there is room again', () => {
    for (const n of [1, 2, 3, 4]) peers.set(NET(n), A);
    expect(() => peers.set(NET(5), C)).toThrow(PeersFullError);
    expect(() => peers.set(NET(5), C)).toThrow(/more than 4 peers/);
    expect(knows(C)).toBe(false);
    expect(target('10.5.5.1')).toBeNull();
    expect(peers.size).toBe(4);
    peers.delete(NET(2));
    peers.set(NET(5), C);
    expect(target('10.5.5.1')).toBe('198.51.100.200:8285');
  });

  it('takes back everything when the forwarding table has no room', () => {
    const small = new PrefixTable(memory.i32, subnetsAt >>> 2, 1, prefix('10.0.0.0/8'));
    const table = new PeerTable(memory, records, CAPACITY, 8285, small, senders);
    expect(() => table.set(prefix('10.5.2.0/24'), A)).toThrow(PrefixTableFullError);
    expect(knows(A)).toBe(false);
    expect(table.size).toBe(0);
    for (const n of [1, 2, 3, 4]) table.set(prefix(`10.${n}.0.0/16`), B);
    expect(table.size).toBe(4);
  });

  it('takes back everything when the table of senders has no room', () => {
    const small = new PrefixTable(memory.i32, sendersAt >>> 2, 4, prefix('0.0.0.0/0'));
    const table = new PeerTable(memory, records, CAPACITY, 8285, subnets, small);
    table.set(NET(1), A);
    expect(() => table.set(NET(2), C)).toThrow(PrefixTableFullError);
    expect(() => table.set(NET(1), C)).toThrow(PrefixTableFullError);
    expect(target('10.5.1.1')).toBe('192.0.2.1:8285');
    expect(target('10.5.2.1')).toBeNull();
    expect(table.size).toBe(1);
  });

  it('agrees with a plain list, whatever comes, moves and goes', () => {
    const step = fc.record({
      subnet: fc.constantFrom(NET(1), NET(2), NET(3), NET(4), prefix('10.5.1.0/26'), prefix('10.5.0.0/22')),
      publicIp: fc.constantFrom(A, B, C, null),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40, size: 'max' }), (steps) => {
        memory.u8.fill(0);
        const bySubnet = new PrefixTable(memory.i32, subnetsAt >>> 2, NODES, prefix('10.5.0.0/16'));
        const bySender = new PrefixTable(memory.i32, sendersAt >>> 2, NODES, prefix('0.0.0.0/0'));
        const table = new PeerTable(memory, records, CAPACITY, 8285, bySubnet, bySender);
        const list = new Map<string, { subnet: Prefix; publicIp: number }>();
        for (const { subnet, publicIp } of steps) {
          const key = `${subnet.address}/${subnet.length}`;
          if (publicIp === null) {
            table.delete(subnet);
            list.delete(key);
          } else if (list.has(key) || list.size < CAPACITY) {
            table.set(subnet, publicIp);
            list.set(key, { subnet, publicIp });
          } else expect(() => table.set(subnet, publicIp)).toThrow(PeersFullError);
        }
        const known = [...table.entries()].map(({ subnet, publicIp }) => ({ subnet, publicIp }));
        expect(known).toEqual(expect.arrayContaining([...list.values()]));
        expect(known).toHaveLength(list.size);
        for (const sender of [A, B, C]) {
          const expected = [...list.values()].some(({ publicIp }) => publicIp === sender);
          expect(bySender.lookup(sender) !== NO_VALUE).toBe(expected);
        }
        const numbers = [...list.values()].map(({ subnet }) => bySubnet.lookup(subnet.address + 60));
        expect(numbers.every((number) => number >= 0 && number < CAPACITY)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});
