import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { formatEndpoint } from '../../../src/base/address.js';
import { formatIpv4, type Prefix } from '../../../src/base/ipv4.js';
import { ControlBlock } from '../../../src/encap/forwarding/control-block.js';
import { ForwardingTable, type Peer, peerName } from '../../../src/encap/forwarding/forwarding-table.js';
import { type Capacity, type Layout, type OverlayNetworks, planLayout } from '../../../src/encap/forwarding/layout.js';
import {
  PEER_BYTES,
  PEER_ENDPOINT_V6,
  PEER_RX_PACKETS,
  PEER_SOCKADDR,
} from '../../../src/encap/forwarding/peer-record.js';
import { NO_VALUE } from '../../../src/encap/forwarding/prefix-table.js';
import { findSender } from '../../../src/encap/forwarding/sender-set.js';
import { SharedMemory } from '../../../src/linux/memory.js';
import { putIpv6 } from '../../../src/linux/structs.js';
import { address, hostV6, prefix, prefixV6 } from './support/workbench.js';

const NETWORK = prefix('10.5.0.0/16');
const NETWORKS = { ipv4: NETWORK, ipv6: null };
const SMALL = { peers: 4, subnetNodes: 64, senderNodes: 64 };
const memory = SharedMemory.create(planLayout(NETWORKS, SMALL).bytes);
const control = new ControlBlock(memory.i32, planLayout(NETWORKS, SMALL).control);

let table: ForwardingTable;
let records: number;
function makeTable(capacity: Partial<Capacity> = {}, ipv4 = NETWORK): void {
  memory.u8.fill(0);
  const networks = { ipv4, ipv6: null };
  const layout = planLayout(networks, { ...SMALL, ...capacity });
  records = layout.peers;
  table = new ForwardingTable({ memory, layout, control, networks, port: 8285 });
}
beforeEach(() => makeTable());

const NET = (n: number): Prefix => prefix(`10.5.${n}.0/24`);
const A = address('192.0.2.1');
const B = address('192.0.2.2');
const C = address('198.51.100.200');

/** Peers by the third octet of their subnets. */
const peers = (list: Readonly<Record<number, number>>): Peer[] =>
  Object.entries(list).map(([n, publicIp]) => ({ subnet: NET(Number(n)), publicIp }));

/** Where a datagram for this inner address would go, as a forwarder reads it. */
function target(inner: string): string | null {
  const number = table.subnets.lookup(address(inner));
  if (number === NO_VALUE) return null;
  const view = new DataView(memory.memory.buffer, records + number * PEER_BYTES + PEER_SOCKADDR);
  expect(view.getUint16(0, true)).toBe(2);
  return `${formatIpv4(view.getUint32(4))}:${view.getUint16(2)}`;
}

const knows = (sender: number) => table.senders.lookup(sender) !== NO_VALUE;
const bump = (inner: string, packets: number) => {
  memory.f64[(records + table.subnets.lookup(address(inner)) * PEER_BYTES + PEER_RX_PACKETS) >>> 3]! += packets;
};
const refusedSubnets = () => table.refused.map(({ subnet }) => subnet);

describe('ForwardingTable', () => {
  it('leads from a subnet to the address of its host, and knows the host as a sender', () => {
    table.replaceAll(peers({ 2: A }));
    expect(target('10.5.2.77')).toBe('192.0.2.1:8285');
    expect(target('10.5.3.77')).toBeNull();
    expect([knows(A), knows(B)]).toEqual([true, false]);
    expect([...table.entries()]).toEqual([
      {
        number: 0,
        subnet: NET(2),
        subnetV6: null,
        publicIp: A,
        publicIpv6: null,
        txPackets: 0,
        txBytes: 0,
        rxPackets: 0,
        rxBytes: 0,
        lastReceived: null,
      },
    ]);
  });

  it('moves a peer to another address: its counters go on, its old address is a stranger', () => {
    table.replaceAll(peers({ 2: A }));
    bump('10.5.2.1', 5);
    table.replaceAll(peers({ 2: C }));
    expect(target('10.5.2.1')).toBe('198.51.100.200:8285');
    expect([knows(A), knows(C)]).toEqual([false, true]);
    expect([...table.entries()]).toMatchObject([{ publicIp: C, rxPackets: 5 }]);
    expect(table.size).toBe(1);
  });

  it('keeps an address known while one of several leases names it', () => {
    table.replaceAll(peers({ 2: A, 3: A }));
    table.replaceAll(peers({ 3: A }));
    expect(knows(A)).toBe(true);
    table.replaceAll(peers({ 3: B }));
    expect([knows(A), knows(B)]).toEqual([false, true]);
  });

  it('writes nothing when it is told the same again, in any order', () => {
    table.replaceAll(peers({ 1: A, 2: A, 3: B }));
    bump('10.5.2.1', 5);
    const before = memory.u8.slice();
    table.replaceAll(peers({ 1: A, 2: A, 3: B }).reverse());
    expect(Buffer.compare(memory.u8, before)).toBe(0);
    table.replaceAll([]);
    expect([knows(A), knows(B), table.size]).toEqual([false, false, 0]);
  });

  it('forgets a peer that is no more among them, a subnet of another length included', () => {
    table.replaceAll([...peers({ 2: A }), { subnet: prefix('10.5.2.0/25'), publicIp: B }]);
    expect([target('10.5.2.1'), target('10.5.2.129')]).toEqual(['192.0.2.2:8285', '192.0.2.1:8285']);
    table.replaceAll(peers({ 2: A }));
    expect(target('10.5.2.1')).toBe('192.0.2.1:8285');
    table.replaceAll([]);
    expect(target('10.5.2.1')).toBeNull();
    expect([...table.entries()]).toEqual([]);
  });

  it('starts from zero when a subnet comes back', () => {
    table.replaceAll(peers({ 2: A }));
    bump('10.5.2.1', 5);
    table.replaceAll([]);
    table.replaceAll(peers({ 2: A }));
    expect([...table.entries()]).toMatchObject([{ rxPackets: 0 }]);
  });

  it('lets a number rest as long as possible before it gives it to another peer', () => {
    table.replaceAll(peers({ 1: A, 2: A }));
    table.replaceAll(peers({ 3: B, 4: B, 5: B, 6: B }));
    expect([3, 4, 5, 6].map((n) => table.subnets.lookup(NET(n).address))).toEqual([2, 3, 0, 1]);
    expect([...table.entries()].every(({ rxPackets }) => rxPackets === 0)).toBe(true);
  });

  it('leaves out a peer too many, keeps the others, and takes it as soon as there is room', () => {
    table.replaceAll(peers({ 1: A, 2: A, 3: A, 4: A, 5: C }));
    expect(table.refused).toEqual([{ subnet: NET(5), publicIp: C, reason: 'no room for more than 4 peers' }]);
    expect([knows(C), target('10.5.5.1'), table.size]).toEqual([false, null, 4]);
    table.replaceAll(peers({ 1: A, 2: A, 3: A, 4: A, 5: C }));
    expect(refusedSubnets()).toEqual([NET(5)]);
    // in one go: who leaves makes room for who comes
    table.replaceAll(peers({ 1: A, 3: A, 4: A, 5: C }));
    expect(table.refused).toEqual([]);
    expect(target('10.5.5.1')).toBe('198.51.100.200:8285');
  });

  it('leaves out a subnet that there is no node for, and tries it again', () => {
    makeTable({ subnetNodes: 1 }, prefix('10.0.0.0/8'));
    const wide = { subnet: prefix('10.1.0.0/16'), publicIp: B };
    const long = { subnet: prefix('10.5.2.0/24'), publicIp: A };
    table.replaceAll([long, wide]);
    expect(table.refused).toMatchObject([{ ...long, reason: expect.stringContaining('no room for its subnet') }]);
    expect([knows(A), knows(B), table.size]).toEqual([false, true, 1]);
    table.replaceAll([wide, ...[2, 3, 4].map((n) => ({ subnet: prefix(`10.${n}.0.0/16`), publicIp: B }))]);
    expect([table.size, table.refused]).toEqual([4, []]);
  });

  it('leaves a host as it was whose new address there is no node for', () => {
    makeTable({ senderNodes: 4 });
    table.replaceAll(peers({ 1: A, 2: C }));
    expect(refusedSubnets()).toEqual([NET(2)]);
    table.replaceAll(peers({ 1: C }));
    expect(table.refused).toMatchObject([{ subnet: NET(1), publicIp: C }]);
    expect(target('10.5.1.1')).toBe('192.0.2.1:8285');
    table.replaceAll([]);
    table.replaceAll(peers({ 1: C }));
    expect([target('10.5.1.1'), table.refused]).toEqual(['198.51.100.200:8285', []]);
  });

  it('has room for a good peer after 9,000 leases of as many networks came and went, again and again', () => {
    const layout = planLayout(NETWORKS);
    const wide = SharedMemory.create(layout.bytes);
    const block = new ControlBlock(wide.i32, layout.control);
    const big = new ForwardingTable({ memory: wide, layout, control: block, networks: NETWORKS, port: 8285 });
    for (let round = 0; round < 6; round++) {
      const strangers = Array.from({ length: 9000 }, (_, i) => ({
        subnet: { address: NETWORK.address + (i << 2), length: 30 },
        publicIp: 0x0b00_0009 + (round * 9000 + i) * 256,
      }));
      big.replaceAll(strangers);
      big.replaceAll([]);
    }
    big.replaceAll(peers({ 2: A }));
    expect(big.refused).toEqual([]);
    expect(big.subnets.lookup(address('10.5.2.77'))).not.toBe(NO_VALUE);
    expect(big.senders.lookup(A)).not.toBe(NO_VALUE);
  });

  it('does not give away what a forwarder may hold: the peer is refused until its turn is over', () => {
    table.replaceAll(peers({ 1: A, 2: A, 3: A, 4: A }));
    control.enterTurn(0);
    table.replaceAll(peers({ 2: A, 3: A, 4: A, 5: B }));
    expect(refusedSubnets()).toEqual([NET(5)]);
    control.leaveTurn(0);
    table.replaceAll(peers({ 2: A, 3: A, 4: A, 5: B }));
    expect(table.refused).toEqual([]);
    expect(target('10.5.5.1')).toBe('192.0.2.2:8285');
  });

  it('agrees with the list that it was given, whatever comes, moves and goes', () => {
    const all = [NET(1), NET(2), NET(3), NET(4), prefix('10.5.1.0/26'), prefix('10.5.0.0/22')];
    const list = fc.uniqueArray(fc.record({ subnet: fc.constantFrom(...all), publicIp: fc.constantFrom(A, B, C) }), {
      selector: ({ subnet }) => `${subnet.address}/${subnet.length}`,
    });
    fc.assert(
      fc.property(fc.array(list, { maxLength: 20, size: 'max' }), (lists) => {
        makeTable();
        const packets = new Map<Prefix, number>();
        for (const wanted of lists) {
          table.replaceAll(wanted);
          const there = [...table.entries()].map((entry) => ({ ...entry, subnet: entry.subnet as Prefix }));
          const refused = table.refused.map(({ subnet, publicIp }) => ({ subnet, publicIp }));
          const sorted = (some: readonly Peer[]) => some.map((peer) => `${peerName(peer)} ${peer.publicIp}`).sort();
          expect(sorted([...there, ...refused])).toEqual(sorted(wanted));
          expect(there.length).toBe(Math.min(SMALL.peers, wanted.length));
          for (const sender of [A, B, C]) {
            expect(knows(sender)).toBe(there.some(({ publicIp }) => publicIp === sender));
          }
          const before = new Map(packets);
          packets.clear();
          for (const { subnet, publicIp, rxPackets } of there) {
            expect(rxPackets).toBe(before.get(subnet) ?? 0);
            const inner = formatIpv4(subnet.address + 60);
            if (
              !there.some((other) => other.subnet.length > subnet.length && other.subnet.address === subnet.address)
            ) {
              expect(target(inner)).toBe(`${formatIpv4(publicIp)}:8285`);
              bump(inner, 1);
            }
            packets.set(subnet, [...table.entries()].find((one) => one.subnet === subnet)!.rxPackets);
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('ForwardingTable with both families', () => {
  const V6: OverlayNetworks = { ipv4: NETWORK, ipv6: prefixV6('fd00:5::/48') };
  const A6 = hostV6(1);
  const B6 = hostV6(2);
  let layout: Layout;

  function make(underlay = { ipv4: true, ipv6: true }): void {
    memory.u8.fill(0);
    layout = planLayout(V6, SMALL);
    records = layout.peers;
    table = new ForwardingTable({ memory, layout, control, networks: V6, underlay, port: 8285 });
  }
  beforeEach(() => make());

  const net6 = (n: number) => prefixV6(`fd00:5:0:${n}::/64`);
  const dual = (n: number, publicIp: number, publicIpv6: bigint | null): Peer => ({
    subnet: NET(n),
    subnetV6: net6(n),
    publicIp,
    publicIpv6,
  });

  /** Where datagrams of a peer go, as a forwarder reads it. */
  function wayOf(number: number): string | null {
    if (number === NO_VALUE) return null;
    const record = records + number * PEER_BYTES;
    const { view, i32 } = memory;
    const endpoint = i32[(record + PEER_ENDPOINT_V6) >>> 2]!;
    if (endpoint === 0)
      return `${formatIpv4(view.getUint32(record + PEER_SOCKADDR + 4))}:${view.getUint16(record + 2)}`;
    expect(view.getUint16(endpoint, true)).toBe(10);
    return formatEndpoint(
      (view.getBigUint64(endpoint + 8) << 64n) | view.getBigUint64(endpoint + 16),
      view.getUint16(endpoint + 2),
    );
  }
  const by4 = (n: number) => wayOf(table.subnets.lookup(NET(n).address + 7));
  const by6 = (n: number) => wayOf(table.subnetsV6.lookup(net6(n).address + 7n));
  /** Whom a forwarder takes the sender of a datagram for. */
  function senderAt(address: bigint): number {
    putIpv6(memory.u8, layout.rx, address);
    return findSender(memory.i32, layout.sendersV6 >>> 2, layout.senderEntriesV6, records, layout.rx);
  }
  const knows6 = (address: bigint) => senderAt(address) !== NO_VALUE;

  it('leads from both subnets to one peer, by IPv4 where it has that', () => {
    table.replaceAll([dual(1, A, A6), dual(2, 0, B6)]);
    expect([by4(1), by6(1), by4(2), by6(2)]).toEqual([
      '192.0.2.1:8285',
      '192.0.2.1:8285',
      '[2001:db8::2]:8285',
      '[2001:db8::2]:8285',
    ]);
    expect([knows(A), knows6(A6), knows6(B6), knows(0)]).toEqual([true, true, true, false]);
  });

  it.each([
    [{ ipv4: true, ipv6: false }, ['192.0.2.1:8285', null, '192.0.2.1:8285']],
    [{ ipv4: false, ipv6: true }, [null, '[2001:db8::2]:8285', '[2001:db8::1]:8285']],
  ])('takes who has an address of a family that this host has: %j', (underlay, ways) => {
    make(underlay);
    table.replaceAll([dual(1, A, null), dual(2, 0, B6), dual(3, A, A6)]);
    expect([1, 2, 3].map(by6)).toEqual(ways);
    expect(table.refused).toMatchObject([{ reason: expect.stringContaining('no public address of a family') }]);
    table.replaceAll([dual(1, A, A6), dual(2, B, B6), dual(3, A, A6)]);
    expect(table.refused).toEqual([]);
  });

  it('gives an IPv6 subnet to one peer only, and to the next as soon as it is free', () => {
    const thief = { ...dual(2, B, null), subnetV6: net6(1) };
    table.replaceAll([dual(1, A, null), thief]);
    expect([by6(1), by4(2)]).toEqual(['192.0.2.1:8285', '192.0.2.2:8285']);
    expect(table.refused).toMatchObject([{ subnet: NET(2), reason: 'its subnet fd00:5:0:1::/64 is another peer’s' }]);
    table.replaceAll([{ ...dual(1, A, null), subnetV6: null }, thief]);
    expect([by6(1), table.refused]).toEqual(['192.0.2.2:8285', []]);
    table.replaceAll([]);
    expect([by6(1), by4(2)]).toEqual([null, null]);
  });

  it('knows a peer without IPv4 by its IPv6 subnet', () => {
    table.replaceAll([{ subnet: null, subnetV6: net6(1), publicIp: 0, publicIpv6: A6 }]);
    expect([by6(1), table.numberOf(net6(1))]).toEqual(['[2001:db8::1]:8285', 0]);
    table.replaceAll([]);
    expect([by6(1), knows6(A6), table.size]).toEqual([null, false, 0]);
  });

  it('keeps an address known while one of several leases names it, under the number of one that does', () => {
    table.replaceAll([dual(1, 0, A6), dual(2, 0, A6)]);
    expect(senderAt(A6)).toBe(0);
    table.replaceAll([dual(2, 0, A6)]);
    expect(senderAt(A6)).toBe(1);
    table.replaceAll([dual(2, 0, B6)]);
    expect([senderAt(A6), senderAt(B6)]).toEqual([NO_VALUE, 1]);
  });

  it('does not give away an endpoint that a forwarder may hold', () => {
    table.replaceAll([dual(1, 0, A6)]);
    control.enterTurn(0);
    const addresses = Array.from({ length: 20 }, (_, i) => hostV6(10 + i));
    const refusals = addresses.map((address) => {
      table.replaceAll([dual(1, 0, address)]);
      return table.refused.length;
    });
    // two for each of four peers: one was taken, seven more may be
    expect(refusals).toEqual(addresses.map((_, i) => (i < 7 ? 0 : 1)));
    expect(by6(1)).toBe(formatEndpoint(addresses[6]!, 8285));
    control.leaveTurn(0);
    table.replaceAll([dual(1, 0, B6)]);
    expect([by6(1), table.refused]).toEqual(['[2001:db8::2]:8285', []]);
  });

  it('writes nothing when it is told the same again', () => {
    const list = [dual(1, A, A6), dual(2, 0, A6), dual(3, B, null)];
    table.replaceAll(list);
    const before = memory.u8.slice();
    table.replaceAll([...list].reverse());
    expect(Buffer.compare(memory.u8, before)).toBe(0);
  });

  it('agrees with the list that it was given, whatever comes, moves and goes', () => {
    const peer = fc.record({
      n: fc.integer({ min: 1, max: 6 }),
      subnetV6: fc.option(fc.integer({ min: 1, max: 6 }), { freq: 4 }),
      publicIp: fc.constantFrom(0, A, B),
      publicIpv6: fc.constantFrom(null, A6, B6),
    });
    const list = fc.uniqueArray(peer, { selector: ({ n }) => n, maxLength: 6 });
    fc.assert(
      fc.property(fc.array(list, { maxLength: 15, size: 'max' }), fc.boolean(), (lists, ipv4) => {
        make({ ipv4, ipv6: true });
        for (const wanted of lists) {
          const all = wanted.map(({ n, subnetV6, publicIp, publicIpv6 }): Peer => {
            return { subnet: NET(n), subnetV6: subnetV6 === null ? null : net6(subnetV6), publicIp, publicIpv6 };
          });
          table.replaceAll(all);
          const there = [...table.entries()];
          for (const { subnet, publicIp, publicIpv6, number } of there) {
            const asked = all.find((one) => one.subnet!.address === subnet!.address)!;
            expect([publicIp, publicIpv6]).toEqual([asked.publicIp, asked.publicIpv6]);
            const way = ipv4 && publicIp !== 0 ? publicIp : publicIpv6!;
            expect(wayOf(number)).toBe(formatEndpoint(way, 8285));
            expect(table.subnets.lookup(subnet!.address)).toBe(number);
          }
          const complete = all.filter(({ subnet }) => there.some((one) => one.subnet!.address === subnet!.address));
          expect(complete.length).toBe(
            Math.min(
              SMALL.peers,
              all.filter(({ publicIp, publicIpv6 }) => (ipv4 && publicIp !== 0) || publicIpv6 !== null).length,
            ),
          );
          // every IPv6 subnet that somebody in the table claims leads to one of those who do
          for (let n = 1; n <= 6; n++) {
            const claimants = complete.filter(({ subnetV6 }) => subnetV6?.address === net6(n).address);
            const found = table.subnetsV6.lookup(net6(n).address);
            const owner = there.find(({ number }) => number === found);
            expect(found !== NO_VALUE).toBe(claimants.length > 0);
            if (owner) expect(claimants.map(({ subnet }) => subnet!.address)).toContain(owner.subnet!.address);
          }
          for (const address of [A, B]) expect(knows(address)).toBe(there.some(({ publicIp }) => publicIp === address));
          for (const address of [A6, B6]) {
            const hosts = there.filter(({ publicIpv6 }) => publicIpv6 === address).map(({ number }) => number);
            expect(hosts.length > 0 ? hosts.includes(senderAt(address)) : !knows6(address)).toBe(true);
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});
