/** The product's merger with everything that it does checked against an independent model. */
import { expect } from 'vitest';
import { type MergeOptions, Merger } from '../../../../src/encap/wire/merge.js';
import { arena } from './arena.js';
import { decodeVnet } from './fake-kernel.js';
import { concat, deliver, faults, long, parse, sameBytes, setWord, TCP, UDP, type Vnet, word } from './reference.js';

export interface Item {
  readonly vnet: Vnet;
  readonly packet: Uint8Array;
  readonly iovCount: number;
  /** Numbers of the added packets that it holds. */
  readonly members: readonly number[];
}

const { memory, regions, sum } = arena(6 << 20);
const { u8 } = memory;
const merger = new Merger(memory, regions, sum, { tcp: true, udp: true });
const start = regions.take(64);

export interface MergeResult {
  readonly items: readonly Item[];
  readonly badChecksums: number;
}

/**
 * Adds the packets, finishes every item, reads what would be written, and restores.
 *
 * @param alignment offset of the first packet from a cache line; the packets lie end to end, as in a received run
 */
export function merge(packets: readonly Uint8Array[], options: MergeOptions = BOTH, alignment = 0): MergeResult {
  merger.options.tcp = options.tcp;
  merger.options.udp = options.udp;
  merger.reset();
  const before = merger.badChecksums;
  const numbers = new Map<number, number>();
  let at = start + alignment;
  packets.forEach((packet, i) => {
    u8.set(packet, at);
    numbers.set(at, i);
    merger.add(at, packet.length);
    at += packet.length;
  });
  const end = at;
  const items: Item[] = [];
  for (let item = 0; item < merger.items.count; item++) {
    merger.items.finish(item);
    const [header, ...pieces] = iovecs(item);
    items.push({
      vnet: decodeVnet(header!),
      packet: concat(...pieces),
      iovCount: merger.items.iovCount(item),
      members: [],
    });
  }
  for (let item = 0; item < merger.items.count; item++) {
    merger.items.restore(item);
    const members = Array.from(
      { length: merger.items.segmentCount[item]! },
      (_, i) => numbers.get(merger.items.packetAt(item, i))!,
    );
    const lengths = members.map((_, i) => merger.items.packetLength(item, i));
    if (lengths.some((length, i) => length !== packets[members[i]!]?.length)) expect.fail('packetLength');
    items[item] = { ...items[item]!, members };
  }
  if (!sameBytes(u8.slice(start + alignment, end), concat(...packets))) expect.fail('restore did not undo finish');
  return { items, badChecksums: merger.badChecksums - before };
}

export const BOTH: MergeOptions = { tcp: true, udp: true };

function iovecs(item: number): Uint8Array[] {
  const view = new DataView(memory.memory.buffer, merger.items.iov(item));
  return Array.from({ length: merger.items.iovCount(item) }, (_, i) => {
    const at = Number(view.getBigUint64(i * 16, true)) - memory.base;
    return u8.slice(at, at + Number(view.getBigUint64(i * 16 + 8, true)));
  });
}

/** Merges, checks the result against the model, and says which packets ended up in which item. */
export function groups(packets: readonly Uint8Array[], options: MergeOptions = BOTH): readonly (readonly number[])[] {
  const { items } = merge(packets, options);
  checkAgainstModel(packets, items);
  return items.map(({ members }) => members);
}

/**
 * The model: what the kernel makes of the written items is what was added, packet by packet.
 *
 * - Nothing is lost, doubled, invented or repaired. Only the id of a packet that must not be fragmented may change, as
 *   it means nothing (RFC 6864); a packet that travels alone keeps it.
 * - The packets of a flow stay in order. A pure acknowledgement may fall behind, never overtake.
 * - Nothing passes a packet whose flow cannot be told.
 * - Items leave in the order in which their first packets came.
 */
export function checkAgainstModel(packets: readonly Uint8Array[], items: readonly Item[]): void {
  const delivered = items.map(({ vnet, packet }) => deliver(vnet, packet));
  items.forEach(({ members, iovCount }, i) => {
    if (delivered[i]!.length !== members.length)
      expect.fail(`${members.length} packets became ${delivered[i]!.length}`);
    if (iovCount !== 1 + members.length) expect.fail(`${iovCount} iovecs for ${members.length} packets`);
    members.forEach((member, j) => {
      const sent = packets[member]!;
      const got = delivered[i]![j]!;
      const same = members.length === 1 ? sameBytes(sent, got) : sameBytes(withoutIdleId(sent), withoutIdleId(got));
      if (!same) expect.fail(`packet ${member} came out different: ${hex(sent)} → ${hex(got)}`);
      if (members.length > 1 && faults(sent).length > 0) expect.fail(`${faults(sent)}: packet ${member} was merged`);
    });
  });
  const order = items.flatMap(({ members }) => members);
  if ([...order].sort((a, b) => a - b).some((number, i) => number !== i) || order.length !== packets.length) {
    expect.fail(`not every packet once: ${order}`);
  }
  const firsts = items.map(({ members }) => members[0]!);
  if (firsts.some((first, i) => i > 0 && first < firsts[i - 1]!)) expect.fail(`items out of order: ${firsts}`);
  checkOrder(packets, order);
}

function checkOrder(packets: readonly Uint8Array[], order: readonly number[]): void {
  const flows = packets.map(flowOf);
  const place = new Map(order.map((number, i) => [number, i]));
  const last = new Map<string, number>();
  const lastAcknowledgement = new Map<string, number>();
  let barrier = -1;
  let furthest = -1;
  packets.forEach((packet, number) => {
    const at = place.get(number)!;
    const flow = flows[number]!;
    if (at < barrier) expect.fail(`packet ${number} passed one that cannot be read`);
    if (flow === UNREADABLE) {
      if (at < furthest) expect.fail(`the unreadable packet ${number} passed another`);
      barrier = at;
    } else {
      const before = last.get(flow) ?? -1;
      if (at < before) expect.fail(`packet ${number} overtook its own flow`);
      if (isPureAcknowledgement(packet)) {
        if (at < (lastAcknowledgement.get(flow) ?? -1)) expect.fail(`acknowledgement ${number} overtook another`);
        lastAcknowledgement.set(flow, at);
      } else last.set(flow, at);
    }
    furthest = Math.max(furthest, at);
  });
}

const UNREADABLE = '?';

/** The flow that a packet belongs to, or UNREADABLE when that cannot be told from it alone. */
function flowOf(packet: Uint8Array): string {
  const version = packet[0]! >> 4;
  if (version === 4) {
    if (
      packet[0] !== 0x45 ||
      word(packet, 2) !== packet.length ||
      word(packet, 6) % 0x4000 !== 0 ||
      packet[6]! > 0x40
    ) {
      return UNREADABLE;
    }
  } else if (version !== 6 || word(packet, 4) + 40 !== packet.length) return UNREADABLE;
  const protocol = packet[version === 4 ? 9 : 6]!;
  const transport = packet.slice(version === 4 ? 20 : 40);
  if (protocol === TCP) {
    const header = transport.length < 20 ? 0 : (transport[12]! >> 4) * 4;
    if (header < 20 || header > transport.length) return UNREADABLE;
  } else if (protocol === UDP) {
    if (transport.length < 8 || word(transport, 4) !== transport.length) return UNREADABLE;
  } else if (version === 6) return UNREADABLE;
  const { source, destination } = parse(packet);
  const ports = protocol === TCP || protocol === UDP ? long(transport, 0) : '';
  return `${protocol} ${source} ${destination} ${ports}`;
}

function isPureAcknowledgement(packet: Uint8Array): boolean {
  const { protocol, payload, flags } = parse(packet);
  return protocol === TCP && payload.length === 0 && (flags & ~0x48) === 0x10;
}

/** A copy without the id that means nothing, and without the header checksum over it. */
function withoutIdleId(packet: Uint8Array): Uint8Array {
  if (packet[0]! >> 4 !== 4 || word(packet, 6) !== 0x4000) return packet;
  const copy = packet.slice();
  setWord(copy, 4, 0);
  setWord(copy, 10, 0);
  return copy;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.subarray(0, 80)).toString('hex');
}

export { merger };
