/**
 * Pieces that the programs share. Each appends its instructions to the program in hand.
 *
 * Registers mean the same in all programs: r6 the context, r7 the peer's record, r8 the inner packet's length, r9 the
 * packet's first byte in memory (as long as nothing has moved it). r0 to r5 are free for the instructions of a block.
 */
import { type Assembler, r0, r1, r2, r3, r4, r6, r7, r8, r9, r10 } from '../assembler/assembler.js';
import type { SK_BUFF } from '../assembler/symbols.js';
import {
  Drop,
  type MapName,
  PEER_INDEX,
  PeerCount,
  PREFIX_ADDRESS,
  PREFIX_KEY_BYTES,
  PREFIX_LENGTH,
  STATE_MERGE_INTO,
  STATE_TENDED_UNTIL,
  type Total,
} from '../maps.js';

export type PacketAssembler = Assembler<typeof SK_BUFF>;

/** Fields of the inner IPv4 and transport headers (RFC 791, 9293), from the IPv4 header's first byte. */
export const IP = {
  versionAndLength: 0,
  totalLength: 2,
  fragment: 6,
  ttl: 8,
  protocol: 9,
  checksum: 10,
  source: 12,
  destination: 16,
  header: 20,
} as const;
export const VERSION_4_WITHOUT_OPTIONS = 0x45;
const TCP_DATA_OFFSET = 12;
const TCP_HEADER = 20;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
/** All of the fragment word but DF, which says nothing about this packet: as the word lies in memory. */
export const FRAGMENT_BITS = swap16(0xbfff);

/** A 16-bit number in network order, as a little-endian load gives it. */
export function swap16(value: number): number {
  return ((value & 0xff) << 8) | (value >>> 8);
}

/** A 32-bit number in network order, as a little-endian load gives it. Unsigned. */
export function swap32(value: number): number {
  return ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}

/** Where a program keeps what does not fit its registers. Offsets from r10. */
export interface Slots {
  /** Of whatever map is looked up. */
  readonly key: number;
  /** How many packets the wire has or had, and their bytes, inner headers of each included. */
  readonly packets: number;
  readonly bytes: number;
  /** Length of the longest of them. */
  readonly longest: number;
}

export function takeSlots(asm: PacketAssembler): Slots {
  return { key: asm.slot(PREFIX_KEY_BYTES), packets: asm.slot(8), bytes: asm.slot(8), longest: asm.slot(8) };
}

/**
 * Sets r9 to the packet and makes sure that its first `bytes` lie in one piece, which a driver promises of no more than a few.
 * The caller knows that the packet is as long.
 */
export function reach(asm: PacketAssembler, bytes: number, otherwise: string, label: string): void {
  const look = (comparison: '<=' | '>', target: string) =>
    asm
      .field(r9, r6, 'data')
      .field(r2, r6, 'data_end')
      .alu(r1, '=', r9)
      .alu(r1, '+=', bytes)
      .jumpIf(r1, comparison, r2, target);
  look('<=', label);
  asm.alu(r1, '=', r6).alu(r2, '=', bytes).call('skb_pull_data').jumpIf(r0, '!=', 0, otherwise);
  look('>', otherwise);
  asm.label(label);
}

/** Looks a key of the stack up. Leaves the value's address in r0, 0 for none. */
export function lookUp(asm: PacketAssembler, map: MapName, key: number): void {
  asm.map(r1, map).alu(r2, '=', r10).alu(r2, '+=', key).call('map_lookup_elem');
}

/**
 * Goes on behind it while a daemon keeps the maps as the host is. Leaves the address of `state` in r0, and the key 0 for maps of one
 * value.
 *
 * @param time slot of the stack with the monotonic clock's nanoseconds
 */
export function whileTended(asm: PacketAssembler, key: number, time: number, otherwise: string): void {
  asm.remark('while somebody tends the maps').store(4, r10, key, 0);
  lookUp(asm, 'state', key);
  asm
    .jumpIf(r0, '==', 0, otherwise)
    .load(8, r1, r0, STATE_TENDED_UNTIL)
    .load(8, r2, r10, time)
    .jumpIf(r2, '>', r1, otherwise);
}

/** A peer whose super-packets arrived whole so lately is left as it is: what is merged must not be overtaken by what need not be. */
const MERGE_PAUSE_NS = 10_000_000_000n;

/**
 * Is this packet to be merged with others of its flow? Writes the device that it is sent into to the slot `into`, 0 for none. The whole
 * of a flow is treated alike, or its packets would overtake each other. Uses all registers up to r5, and r7.
 *
 * @param offset of the inner IPv4 header
 * @param time slot of the stack with the monotonic clock's nanoseconds
 * @param r7 this processor's counters of the peer
 */
export function chooseMerging(asm: PacketAssembler, offset: number, key: number, time: number, into: number): void {
  asm
    .remark('single segments of TCP may be merged, unless the peer’s super-packets arrive whole')
    .load(8, r3, r10, time)
    .field(r1, r6, 'gso_size')
    .jumpIf(r1, '==', 0, 'single')
    .store(8, r7, PeerCount.lastSuperPacket, r3)
    .jump('merging_chosen')
    .label('single')
    .load(1, r1, r9, offset + IP.protocol)
    .jumpIf(r1, '!=', PROTOCOL_TCP, 'merging_chosen')
    .load(8, r1, r7, PeerCount.lastSuperPacket)
    .jumpIf(r1, '==', 0, 'none_lately')
    .alu(r3, '-=', r1)
    .constant64(r2, MERGE_PAUSE_NS)
    .jumpIf(r3, '<=', r2, 'merging_chosen')
    .label('none_lately')
    .store(4, r10, key, 0);
  lookUp(asm, 'state', key);
  asm
    .jumpIf(r0, '==', 0, 'merging_chosen')
    .load(4, r1, r0, STATE_MERGE_INTO)
    .store(8, r10, into, r1)
    .label('merging_chosen');
}

/** Sets r7 to the peer whose subnet holds the inner address at `offset` of the packet. */
export function findPeer(asm: PacketAssembler, offset: number, key: number, otherwise: string): void {
  asm
    .load(4, r1, r9, offset)
    .store(4, r10, key + PREFIX_ADDRESS, r1)
    .store(4, r10, key + PREFIX_LENGTH, 32);
  lookUp(asm, 'subnets', key);
  asm.jumpIf(r0, '==', 0, otherwise).alu(r7, '=', r0);
}

/** Adds the carries of a one's complement sum in r1 to its low 16 bits, `times` over. */
export function fold(asm: PacketAssembler, times: number): void {
  for (let i = 0; i < times; i++) asm.alu(r2, '=', r1).alu(r2, '>>=', 16).alu(r1, '&=', 0xffff).alu(r1, '+=', r2);
}

/** Jumps unless the checksum of the IPv4 header of 20 bytes at `offset` of the packet is right. */
export function checkHeaderSum(asm: PacketAssembler, offset: number, otherwise: string): void {
  asm.load(4, r1, r9, offset);
  for (let at = 4; at < IP.header; at += 4) asm.load(4, r2, r9, offset + at).alu(r1, '+=', r2);
  fold(asm, 3); // five words of 32 bits
  asm.jumpIf(r1, '!=', 0xffff, otherwise);
}

/** Takes one off the TTL of the IPv4 header at `offset`, and patches its checksum (RFC 1624, equation 3). */
export function decrementTtl(asm: PacketAssembler, offset: number, label: string): void {
  asm
    .load(1, r1, r9, offset + IP.ttl)
    .alu(r1, '-=', 1)
    .store(1, r9, offset + IP.ttl, r1)
    // the TTL is the upper byte of its word, so the checksum grows by 0x0100: by 1 as the word lies in memory
    .load(2, r1, r9, offset + IP.checksum)
    .alu(r1, '+=', 1)
    .jumpIf(r1, '<', 0xffff, label)
    .alu(r1, '-=', 0xffff)
    .label(label)
    .store(2, r9, offset + IP.checksum, r1);
}

/**
 * Fills the slots with what the packet is on the wire: itself, or the segments of a super-packet.
 *
 * Super-packets of UDP are left alone: behind the far end's decapsulation a kernel that has to cut one still takes it for a
 * tunnel's, fails, and drops it. With TCP it does not look.
 *
 * @param offset of the inner IPv4 header
 * @param otherwise for super-packets of other protocols than TCP
 */
export function measure(asm: PacketAssembler, offset: number, slots: Slots, otherwise: string): void {
  asm
    .store(8, r10, slots.packets, 1)
    .store(8, r10, slots.bytes, r8)
    .store(8, r10, slots.longest, r8)
    .field(r3, r6, 'gso_size')
    .jumpIf(r3, '==', 0, 'measured')
    .jumpIf(r8, '<=', IP.header + TCP_HEADER, otherwise);
  reach(asm, offset + IP.header + TCP_HEADER, otherwise, 'transport');
  asm
    .field(r3, r6, 'gso_size')
    .load(1, r1, r9, offset + IP.protocol)
    .jumpIf(r1, '!=', PROTOCOL_TCP, otherwise)
    // r4: headers of each segment
    .load(1, r4, r9, offset + IP.header + TCP_DATA_OFFSET)
    .alu(r4, '>>=', 4)
    .alu(r4, '<<=', 2)
    .alu(r4, '+=', IP.header)
    .jumpIf(r8, '<=', r4, otherwise)
    .alu(r1, '=', r4)
    .alu(r1, '+=', r3)
    .store(8, r10, slots.longest, r1)
    .alu(r1, '=', r8)
    .alu(r1, '-=', r4)
    .alu(r1, '+=', r3)
    .alu(r1, '-=', 1)
    .alu(r1, '/=', r3)
    .store(8, r10, slots.packets, r1)
    .alu(r1, '-=', 1)
    .alu(r1, '*=', r4)
    .alu(r1, '+=', r8)
    .store(8, r10, slots.bytes, r1)
    .label('measured');
}

type Sums = readonly (readonly [counter: number, slot: number])[];

/** Adds slots of the stack to the 64-bit numbers that r0 points to. */
function add(asm: PacketAssembler, sums: Sums): void {
  for (const [counter, slot] of sums) {
    asm.load(8, r1, r10, slot).load(8, r2, r0, counter).alu(r2, '+=', r1).store(8, r0, counter, r2);
  }
}

/** Counts the packet for its direction and its peer. */
export function count(
  asm: PacketAssembler,
  slots: Slots,
  totals: readonly (readonly [(typeof Total)[keyof typeof Total], number])[],
  ofPeer: readonly (readonly [(typeof PeerCount)[keyof typeof PeerCount], number])[],
  also: (asm: PacketAssembler) => void,
): void {
  asm.store(4, r10, slots.key, 0);
  lookUp(asm, 'counters', slots.key);
  asm.jumpIf(r0, '==', 0, 'drop_silently');
  add(asm, totals);
  asm.load(4, r1, r7, PEER_INDEX).store(4, r10, slots.key, r1);
  lookUp(asm, 'peer_counters', slots.key);
  asm.jumpIf(r0, '==', 0, 'counted');
  add(asm, ofPeer);
  also(asm);
  asm.label('counted');
}

/** Where drops of this reason jump to. */
export function dropLabel(reason: keyof typeof Drop): string {
  return `drop_${reason}`;
}

/** The places for `dropLabel`: each leaves its counter's offset in r7 and goes on to `drop`. */
export function dropPlaces(asm: PacketAssembler, reasons: readonly (keyof typeof Drop)[]): void {
  reasons.forEach((reason, i) => {
    asm.label(dropLabel(reason)).alu(r7, '=', Drop[reason]);
    if (i < reasons.length - 1) asm.jump('drop');
  });
}
