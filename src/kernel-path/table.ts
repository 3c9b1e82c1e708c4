/**
 * The writing side of the maps, and the reading side of their counters.
 *
 * Every call says what should be; what is written is the difference to what was written before. A peer's counters go on as
 * long as it is a peer, whatever changes about it.
 */
import { messageOf } from '../base/errors.js';
import type { Prefix } from '../base/ipv4.js';
import type { Bpf } from './bpf.js';
import {
  CONTAINER_BRIDGE,
  CONTAINER_BYTES,
  CONTAINER_IFINDEX,
  CONTAINER_MACS,
  COUNTER_BYTES,
  Drop,
  FLOW_KEY_BYTES,
  type Maps,
  OUTER_BYTES,
  OUTER_IPV4,
  PAST_BRIDGE,
  PEER_BYTES,
  PEER_CHECKSUM_BASE,
  PEER_COUNTER_BYTES,
  PEER_INDEX,
  PEER_MAX_PACKET,
  PEER_OUTER,
  PeerCount,
  PREFIX_ADDRESS,
  PREFIX_KEY_BYTES,
  PREFIX_LENGTH,
  SENDER_BYTES,
  STATE_BYTES,
  STATE_COMPLETE,
  STATE_MERGE_INTO,
  STATE_TENDED_UNTIL,
  Total,
} from './maps.js';

/** So long the programs take the maps for kept after they were told so last: several times as long as until they are told again. */
const TENDED_NS = 5_000_000_000n;

/** Addresses in host order. */
export interface KernelPeer {
  readonly subnet: Prefix;
  readonly publicIp: number;
  /** The longest datagram, its IPv4 header included, that goes to it in one piece; RECEIVE_ONLY to send by user space. */
  readonly pathMtu: number;
}

/** For `pathMtu`: no packet is as short, so all that goes out is left to user space. */
export const RECEIVE_ONLY = 0;

/** A container that can be reached without the host's bridge and routes. */
export interface KernelContainer {
  /** Its inner address, host order. */
  readonly address: number;
  /** The host's end of its link. */
  readonly ifindex: number;
  /** The bridge that the link is a port of; 0 for none. */
  readonly bridge: number;
  /** Six bytes each: its own MAC, and what it takes for the sender's. */
  readonly mac: Uint8Array;
  readonly gatewayMac: Uint8Array;
}

/** Something that stays with user space, because the kernel did not take it into a map. */
export interface Refusal {
  /** Index in the list that was given. */
  readonly index: number;
  readonly reason: string;
}

export interface KernelPeerCounters {
  readonly subnet: Prefix;
  readonly publicIp: number;
  readonly txPackets: number;
  readonly txBytes: number;
  readonly rxPackets: number;
  readonly rxBytes: number;
  /** Milliseconds since something last came from it by the kernel path; null for never. */
  readonly silentForMs: number | null;
}

export interface TableOptions {
  /** This host's address on the underlay, host order: the source of its datagrams. */
  readonly address: number;
  readonly port: number;
  /** How many peers the maps hold. */
  readonly capacity: number;
  /** Processors that the kernel reckons with: each has values of its own in a map per processor. */
  readonly processors: number;
}

interface Entry {
  readonly peer: KernelPeer;
  readonly index: number;
  readonly record: Uint8Array;
}

/** Owned by the control thread. */
export class KernelTable {
  readonly #bpf: Bpf;
  readonly #maps: Maps;
  readonly #options: TableOptions;
  readonly #peers = new Map<string, Entry>();
  readonly #senders = new Set<number>();
  readonly #containers = new Map<number, Uint8Array>();
  /** Counters given back, oldest first. */
  readonly #resting: number[] = [];
  #fresh = 0;
  #complete = false;
  #tendedUntil = 0n;
  #mergeInto = 0;

  constructor(bpf: Bpf, maps: Maps, options: TableOptions) {
    this.#bpf = bpf;
    this.#maps = maps;
    this.#options = options;
  }

  /** Every peer is in the maps: what comes from others may be dropped by the programs. */
  get complete(): boolean {
    return this.#complete;
  }

  get peers(): number {
    return this.#peers.size;
  }

  get containers(): number {
    return this.#containers.size;
  }

  /**
   * These are the peers, all of them. A peer that the kernel does not take disturbs no other: it is left to user space, and
   * tried again with the next call.
   */
  replaceAll(peers: readonly KernelPeer[]): readonly Refusal[] {
    const refused: Refusal[] = [];
    const wanted = new Map(peers.map((peer, index) => [keyOf(peer.subnet), { peer, index }]));
    // as long as one is missing, user space judges what looks foreign
    if (!peers.every((peer) => this.#peers.get(keyOf(peer.subnet))?.peer.publicIp === peer.publicIp)) {
      this.#setComplete(false);
    }
    // what is gone makes room first
    for (const key of [...this.#peers.keys()]) if (!wanted.has(key)) this.#removePeer(key);
    this.#keepSenders(peers);
    for (const [key, { peer, index }] of wanted) {
      try {
        this.#addSender(peer.publicIp);
        this.#setPeer(key, peer);
      } catch (error) {
        refused.push({ index, reason: messageOf(error) });
        this.#removePeer(key); // better by user space than to where it was
      }
    }
    this.#keepSenders([...this.#peers.values()].map(({ peer }) => peer));
    this.#setComplete(refused.length === 0);
    return refused;
  }

  /** These are the containers, all of them. What is gone goes first, for a packet for a link that is gone is lost. */
  setContainers(containers: readonly KernelContainer[]): readonly Refusal[] {
    const refused: Refusal[] = [];
    const wanted = new Map(containers.map((container, index) => [container.address, { container, index }]));
    for (const address of [...this.#containers.keys()]) {
      if (wanted.has(address)) continue;
      this.#bpf.delete(this.#maps.containers, networkOrder(address));
      this.#containers.delete(address);
    }
    for (const [address, { container, index }] of wanted) {
      const record = containerRecord(container);
      const known = this.#containers.get(address);
      if (known !== undefined && sameBytes(known, record)) continue;
      try {
        this.#bpf.update(this.#maps.containers, networkOrder(address), record);
        this.#containers.set(address, record);
      } catch (error) {
        refused.push({ index, reason: messageOf(error) });
        this.#bpf.delete(this.#maps.containers, networkOrder(address));
        this.#containers.delete(address);
      }
    }
    return refused;
  }

  /** Until the next `replaceAll` it is not known who the peers are: user space judges. */
  suspend(): void {
    this.#setComplete(false);
  }

  /**
   * What is said here holds for the next seconds. Has to be called again and again: a process that is killed cannot say that it goes.
   *
   * @param until nanoseconds of the monotonic clock
   */
  tend(until: bigint = process.hrtime.bigint() + TENDED_NS): void {
    this.#writeState(this.#complete, until);
    this.#tendedUntil = until;
  }

  /** Single packets of TCP are sent into this device to be merged; 0: they are handed on as they are. */
  setMergeInto(ifindex: number): void {
    if (ifindex === this.#mergeInto) return;
    this.#writeState(this.#complete, this.#tendedUntil, ifindex);
    this.#mergeInto = ifindex;
  }

  /** Nobody keeps the maps as the host is any more. */
  abandon(): void {
    this.#mergeInto = 0;
    this.tend(0n);
  }

  /** Totals and drops under the names that the forwarders' have, and the super-packets that were spared a bridge. */
  counters(): {
    readonly totals: Record<keyof typeof Total, number>;
    readonly drops: Record<keyof typeof Drop, number>;
    readonly pastBridge: number;
  } {
    const sums = this.#sum(this.#maps.counters, 0, COUNTER_BYTES);
    const read = <T extends Readonly<Record<string, number>>>(offsets: T) =>
      Object.fromEntries(Object.entries(offsets).map(([name, offset]) => [name, sums[offset / 8] ?? 0])) as {
        [K in keyof T]: number;
      };
    return { totals: read(Total), drops: read(Drop), pastBridge: sums[PAST_BRIDGE / 8] ?? 0 };
  }

  /** @param nowNanoseconds the monotonic clock */
  *entries(nowNanoseconds: bigint = process.hrtime.bigint()): Iterable<KernelPeerCounters> {
    for (const { peer, index } of this.#peers.values()) {
      const bytes = this.#values(this.#maps.peer_counters, index, PEER_COUNTER_BYTES);
      const [txPackets, txBytes, rxPackets, rxBytes] = sumWords(bytes, PEER_COUNTER_BYTES) as [
        number,
        number,
        number,
        number,
      ];
      const last = latest(bytes, PEER_COUNTER_BYTES, PeerCount.lastReceived);
      const silentForMs = last === 0n ? null : Math.max(0, Number(nowNanoseconds - last) / 1e6);
      yield { subnet: peer.subnet, publicIp: peer.publicIp, txPackets, txBytes, rxPackets, rxBytes, silentForMs };
    }
  }

  /** All flows begin anew: the next packet of each goes by route. */
  forgetFlows(): void {
    for (const key of [...this.#bpf.keys(this.#maps.flows, FLOW_KEY_BYTES)]) this.#bpf.delete(this.#maps.flows, key);
  }

  /** Sets all totals and drops to 0. */
  resetCounters(): void {
    this.#bpf.update(this.#maps.counters, new Uint8Array(4), new Uint8Array(COUNTER_BYTES * this.#options.processors));
  }

  #setPeer(key: string, peer: KernelPeer): void {
    const known = this.#peers.get(key);
    const index = known?.index ?? this.#takeIndex();
    const record = peerRecord(peer, index, this.#options);
    if (known !== undefined && sameBytes(known.record, record)) return;
    try {
      this.#bpf.update(this.#maps.subnets, prefixKey(peer.subnet), record);
    } catch (error) {
      if (known === undefined) this.#resting.push(index);
      throw error;
    }
    this.#peers.set(key, { peer, index, record });
  }

  /** Counters that begin with 0. */
  #takeIndex(): number {
    const index = this.#resting.shift() ?? this.#fresh;
    if (index >= this.#options.capacity) throw new RangeError(`the kernel path takes ${this.#options.capacity} peers`);
    const zeros = new Uint8Array(PEER_COUNTER_BYTES * this.#options.processors);
    try {
      this.#bpf.update(this.#maps.peer_counters, indexKey(index), zeros);
    } catch (error) {
      if (index !== this.#fresh) this.#resting.unshift(index);
      throw error;
    }
    if (index === this.#fresh) this.#fresh++;
    return index;
  }

  #removePeer(key: string): void {
    const known = this.#peers.get(key);
    if (known === undefined) return;
    this.#bpf.delete(this.#maps.subnets, prefixKey(known.peer.subnet));
    this.#peers.delete(key);
    this.#resting.push(known.index);
  }

  #addSender(address: number): void {
    if (this.#senders.has(address)) return;
    this.#bpf.update(this.#maps.senders, networkOrder(address), new Uint8Array(SENDER_BYTES));
    this.#senders.add(address);
  }

  /** Removes the senders that none of these peers has. */
  #keepSenders(peers: readonly KernelPeer[]): void {
    const addresses = new Set(peers.map(({ publicIp }) => publicIp));
    for (const address of [...this.#senders]) {
      if (addresses.has(address)) continue;
      this.#bpf.delete(this.#maps.senders, networkOrder(address));
      this.#senders.delete(address);
    }
  }

  #setComplete(complete: boolean): void {
    if (complete === this.#complete) return;
    this.#writeState(complete, this.#tendedUntil);
    this.#complete = complete;
  }

  #writeState(complete: boolean, tendedUntil: bigint, mergeInto = this.#mergeInto): void {
    const state = new Uint8Array(STATE_BYTES);
    const view = new DataView(state.buffer);
    state[STATE_COMPLETE] = complete ? 1 : 0;
    view.setUint32(STATE_MERGE_INTO, mergeInto, true);
    view.setBigUint64(STATE_TENDED_UNTIL, tendedUntil, true);
    this.#bpf.update(this.#maps.state, new Uint8Array(4), state);
  }

  #values(map: number, index: number, valueBytes: number): Uint8Array {
    return (
      this.#bpf.lookup(map, indexKey(index), valueBytes * this.#options.processors) ??
      new Uint8Array(valueBytes * this.#options.processors)
    );
  }

  #sum(map: number, index: number, valueBytes: number): number[] {
    return sumWords(this.#values(map, index, valueBytes), valueBytes);
  }
}

function keyOf({ address, length }: Prefix): string {
  return `${address}/${length}`;
}

function networkOrder(address: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, address);
  return bytes;
}

function indexKey(index: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, index, true);
  return bytes;
}

function prefixKey({ address, length }: Prefix): Uint8Array {
  const bytes = new Uint8Array(PREFIX_KEY_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(PREFIX_LENGTH, length, true);
  view.setUint32(PREFIX_ADDRESS, address);
  return bytes;
}

const VERSION_AND_LENGTH = 0x45;
const DONT_FRAGMENT = 0x4000;
const DEFAULT_TTL = 64;
const PROTOCOL_UDP = 17;

/** The headers that the kernel gives a datagram of user space, which sets DF and leaves the rest at its defaults. */
function peerRecord(peer: KernelPeer, index: number, { address, port }: TableOptions): Uint8Array {
  const bytes = new Uint8Array(PEER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes[PEER_OUTER] = VERSION_AND_LENGTH;
  view.setUint16(PEER_OUTER + 6, DONT_FRAGMENT);
  bytes[PEER_OUTER + 8] = DEFAULT_TTL;
  bytes[PEER_OUTER + 9] = PROTOCOL_UDP;
  view.setUint32(PEER_OUTER + 12, address);
  view.setUint32(PEER_OUTER + 16, peer.publicIp);
  view.setUint16(PEER_OUTER + OUTER_IPV4, port);
  view.setUint16(PEER_OUTER + OUTER_IPV4 + 2, port);
  let sum = 0;
  for (let at = 0; at < OUTER_IPV4; at += 2) sum += view.getUint16(PEER_OUTER + at, true);
  view.setUint32(PEER_CHECKSUM_BASE, sum, true);
  view.setUint32(PEER_MAX_PACKET, Math.max(0, peer.pathMtu - OUTER_BYTES), true);
  view.setUint32(PEER_INDEX, index, true);
  return bytes;
}

function containerRecord({ ifindex, bridge, mac, gatewayMac }: KernelContainer): Uint8Array {
  const bytes = new Uint8Array(CONTAINER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(CONTAINER_IFINDEX, ifindex, true);
  view.setUint32(CONTAINER_BRIDGE, bridge, true);
  bytes.set(mac, CONTAINER_MACS);
  bytes.set(gatewayMac, CONTAINER_MACS + mac.length);
  return bytes;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** Adds the processors' values up, 64-bit word by word. A double counts exactly up to 2⁵³. */
function sumWords(values: Uint8Array, valueBytes: number): number[] {
  const view = new DataView(values.buffer, values.byteOffset, values.length);
  const sums: number[] = new Array(valueBytes / 8).fill(0);
  for (let at = 0; at < values.length; at += 8) {
    const word = (at % valueBytes) / 8;
    sums[word] = (sums[word] ?? 0) + Number(view.getBigUint64(at, true));
  }
  return sums;
}

function latest(values: Uint8Array, valueBytes: number, offset: number): bigint {
  const view = new DataView(values.buffer, values.byteOffset, values.length);
  let found = 0n;
  for (let at = offset; at < values.length; at += valueBytes) {
    const value = view.getBigUint64(at, true);
    if (value > found) found = value;
  }
  return found;
}
