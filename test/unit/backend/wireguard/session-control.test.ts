import { afterEach, describe, expect, it, vi } from 'vitest';
import type { WireguardPeer } from '../../../../src/backend/wireguard/peers.js';
import { SessionControl } from '../../../../src/backend/wireguard/session-control.js';
import { type Address, type Family, parseAddress } from '../../../../src/base/address.js';
import { parseIpv4, parsePrefix } from '../../../../src/base/ipv4.js';
import { parseIpv6, parseIpv6Prefix } from '../../../../src/base/ipv6.js';
import { DataPlane } from '../../../../src/encap/datapath/data-plane.js';
import { createSealer } from '../../../../src/encap/datapath/sealing.js';
import { planLayout } from '../../../../src/encap/forwarding/layout.js';
import { PEER_BYTES, PEER_ENDPOINT_V6, PEER_SOCKADDR } from '../../../../src/encap/forwarding/peer-record.js';
import { createCopy } from '../../../../src/linux/copy.js';
import { RegionAllocator } from '../../../../src/linux/memory.js';
import { type Endpoint, endpointOf, formatEndpoint } from '../../../../src/wireguard/endpoint.js';
import { formatKey, PrivateKey } from '../../../../src/wireguard/keys.js';
import { Mailbox } from '../../../../src/wireguard/mailbox.js';
import { readSockaddr, writeSockaddr } from '../../../../src/wireguard/peer-records.js';
import { ATTENTION_MESSAGES, planTransport, type TransportLayout } from '../../../../src/wireguard/transport-layout.js';

const NETWORKS = { ipv4: parsePrefix('10.5.0.0/16')!, ipv6: parseIpv6Prefix('fd00:5::/48')! };
/** Sockets of the forwarders. */
const SOCKETS = { ipv4: 7, ipv6: 8 };
const hosts: Host[] = [];
afterEach(() => {
  for (const host of hosts.splice(0)) host.control.close();
});

/** A host without forwarders: a sealer stands in for them, and what is sent is kept. */
class Host {
  readonly key: PrivateKey;
  readonly sent: { readonly message: Uint8Array; readonly to: string; readonly by: number }[] = [];
  readonly plane: DataPlane;
  readonly control: SessionControl;
  readonly #sealer: ReturnType<typeof createSealer>;
  readonly #layout: TransportLayout;
  readonly #letter: number;
  time = 1_000;
  wakes = 0;

  constructor(
    readonly number: number,
    peers = 4,
    secret = number,
    /** Of its address on the underlay. */
    readonly outer: Family = 4,
  ) {
    this.key = new PrivateKey(new Uint8Array(32).fill(secret));
    const layout = planLayout(NETWORKS, { peers, subnetNodes: 16, senderNodes: 16 });
    const all = new RegionAllocator(layout.bytes);
    const sealing = { layout: planTransport(all, peers), mtu: 1420 };
    const [own, stand] = [all.take(1 << 20), all.take(1 << 20)];
    this.#layout = sealing.layout;
    this.#letter = all.take(512);
    const both = { ipv4: true, ipv6: true };
    this.plane = new DataPlane(NETWORKS, 51820, { ...layout, bytes: all.used }, both);
    this.plane.wake = () => void this.wakes++;
    this.#sealer = createSealer({ memory: this.plane.memory, call: () => {} }, new RegionAllocator(stand), sealing);
    this.control = new SessionControl({
      plane: this.plane,
      sealing,
      regions: new RegionAllocator(own),
      sockets: SOCKETS,
      privateKey: this.key,
      context: { presharedKey: null, keepalive: 0 },
      clock: () => ({ monotonic: this.time, wall: 1_700_000_000_000 + this.time }),
      sendto: (by, message, length, _flags, address) => {
        const to = formatEndpoint(readSockaddr(address, 0)!);
        this.sent.push({ message: message.slice(0, length), to, by });
        return length;
      },
    });
    hosts.push(this);
  }

  get address(): Address {
    return this.outer === 4 ? parseIpv4(`192.0.2.${this.number}`)! : parseIpv6(`2001:db8::${this.number}`)!;
  }

  get endpoint(): Endpoint {
    return endpointOf(this.address, 51820);
  }

  /** As its lease would have it. */
  get asPeer(): WireguardPeer {
    return {
      subnet: parsePrefix(`10.5.${this.number}.0/24`)!,
      subnetV6: parseIpv6Prefix(`fd00:5:0:${this.number}::/64`)!,
      publicIp: 0,
      publicIpv6: null,
      address: this.address,
      port: 51820,
      publicKey: this.key.publicKey,
      name: formatKey(this.key.publicKey),
    };
  }

  numberOf(other: WireguardPeer): number {
    return this.plane.table.numberOf(other.subnet ?? other.subnetV6!)!;
  }

  /** What a forwarder does with a packet. @returns the length of the message; 0 when there is no session */
  seal(peer: number): number {
    this.#sealer.reset();
    return this.#sealer.seal(peer, 64, 20, 0, 0);
  }

  /** What a forwarder does with a message of a handshake. */
  post(message: Uint8Array, from: Endpoint): void {
    const { memory } = this.plane;
    memory.u8.set(message, this.#letter);
    writeSockaddr(memory.u8, this.#letter + 256, from);
    const mailbox = new Mailbox(memory, this.#layout.mailbox, createCopy(memory));
    expect(mailbox.put(this.#letter, message.length, this.#letter + 256)).toBe(true);
    Atomics.or(memory.i32, this.#layout.attention >>> 2, ATTENTION_MESSAGES);
  }

  /** The other renews its session, and speaks from elsewhere. */
  hear(other: Host, from: Endpoint): void {
    this.time += 200_000;
    other.time += 200_000;
    other.control.attend();
    other.seal(other.numberOf(this.asPeer));
    other.control.attend();
    for (const { message } of other.sent.splice(0)) {
      this.control.device.receive(message, from, { monotonic: this.time, wall: 1_700_000_000_000 + this.time });
    }
    this.control.attend();
  }

  /** A forwarder is in a turn, and may hold what it read in the tables. */
  set inTurn(inTurn: boolean) {
    if ((this.plane.control.beat(0) & 1) === (inTurn ? 1 : 0)) return;
    if (inTurn) this.plane.control.enterTurn(0);
    else this.plane.control.leaveTurn(0);
  }

  attempts(peer: number): number {
    return this.#sealer.failedAttempts(peer);
  }

  goesTo(peer: number): string {
    const record = this.plane.layout.peers + peer * PEER_BYTES;
    const { u8, i32 } = this.plane.memory;
    return formatEndpoint(readSockaddr(u8, i32[(record + PEER_ENDPOINT_V6) >>> 2] || record + PEER_SOCKADDR)!);
  }
}

/** Carries what was sent, back and forth, until there is nothing more. */
function exchange(a: Host, b: Host): void {
  for (let round = 0; round < 4; round++) {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      for (const { message } of from.sent.splice(0)) {
        to.control.device.receive(message, from.endpoint, { monotonic: to.time, wall: 1_700_000_000_000 + to.time });
      }
      to.control.attend();
    }
  }
}

function connect(a: Host, b: Host): void {
  a.control.setPeers([b.asPeer]);
  b.control.setPeers([a.asPeer]);
  a.seal(a.numberOf(b.asPeer));
  a.control.attend();
  exchange(a, b);
}

describe('SessionControl', () => {
  it.each([
    [4, '192.0.2.2:51820', SOCKETS.ipv4],
    [6, '[2001:db8::2]:51820', SOCKETS.ipv6],
  ] as const)('a packet without a session brings one about by IPv%i, and wakes the forwarders', (outer, where, by) => {
    const [one, two] = [1, 2].map((number) => new Host(number, 4, number, outer)) as [Host, Host];
    one.control.setPeers([two.asPeer]);
    two.control.setPeers([one.asPeer]);
    const peer = one.numberOf(two.asPeer);
    expect(one.seal(peer)).toBe(0);
    one.control.attend();
    expect(one.sent.map(({ to, by, message }) => [to, by, message[0]])).toEqual([[where, by, 1]]);
    one.wakes = 0;
    exchange(one, two);
    expect(one.wakes).toBeGreaterThan(0);
    expect(one.seal(peer)).toBe(32 + 32);
    expect(one.control.counted().totals).toEqual({ handshakes: 1, handshakes_unanswered: 0, rekeys: 0 });
    expect(one.control.statuses().get(peer)?.lastHandshake).toBeGreaterThan(0);
  });

  it('answers messages without looking at every peer, and has ended sessions forgotten when it looks', () => {
    const [one, two] = [new Host(1), new Host(2)];
    one.control.setPeers([two.asPeer]);
    two.control.setPeers([one.asPeer]);
    const looks = vi.spyOn(one.control.device, 'poll');
    one.wakes = 0;
    // more sessions than a peer keeps
    for (let i = 0; i < 8; i++) {
      two.control.device.connect(two.numberOf(one.asPeer), { monotonic: two.time, wall: 1_700_000_000_000 + two.time });
      for (const { message } of two.sent.splice(0)) one.post(message, two.endpoint);
      one.control.called();
      one.time += 25;
      two.time += 6_000;
      two.control.attend();
    }
    expect(one.sent.filter(({ message }) => message[0] === 2)).toHaveLength(8);
    expect(looks).not.toHaveBeenCalled();
    expect(one.wakes).toBe(0);
    one.time += 250;
    one.control.called();
    expect(looks).toHaveBeenCalledTimes(1);
    expect(one.wakes).toBe(1);
  });

  it('greets its peers at the start: they may have sessions with a former life of this host', () => {
    const [one, two] = [new Host(1), new Host(2)];
    connect(one, two);
    const again = new Host(1);
    // clocks go on
    again.time = one.time + 1_000;
    two.time += 1_000;
    again.control.setPeers([two.asPeer]);
    again.control.begin(true);
    expect(again.sent.map(({ message }) => message[0])).toEqual([1]);
    exchange(again, two);
    expect(again.seal(again.numberOf(two.asPeer))).toBeGreaterThan(0);
    expect(two.control.counted().drops.handshake_unknown_peer).toBe(0);
  });

  it('peers that stay keep their session, whatever else changes', () => {
    const [one, two, three] = [new Host(1), new Host(2), new Host(3)];
    connect(one, two);
    const peer = one.numberOf(two.asPeer);
    one.control.setPeers([three.asPeer, two.asPeer]);
    one.control.setPeers([two.asPeer]);
    expect(one.numberOf(two.asPeer)).toBe(peer);
    expect(one.seal(peer)).toBeGreaterThan(0);
  });

  it('a host that has another key by now is another peer: nothing is sealed for the former one', () => {
    const [one, two, again] = [new Host(1), new Host(2), new Host(2, 4, 22)];
    connect(one, two);
    const peer = one.numberOf(two.asPeer);
    const before = one.attempts(peer);
    one.control.setPeers([again.asPeer]);
    expect(one.numberOf(again.asPeer)).toBe(peer);
    expect(one.seal(peer)).toBe(0);
    expect(one.attempts(peer)).not.toBe(before);
  });

  it('a record passes to another peer without a session, and with another stamp for what waits', () => {
    const [one, two, three] = [new Host(1, 1), new Host(2), new Host(3)];
    connect(one, two);
    const before = one.attempts(0);
    expect(one.control.setPeers([three.asPeer])).toEqual(new Map());
    expect(one.numberOf(three.asPeer)).toBe(0);
    expect(one.seal(0)).toBe(0);
    expect(one.attempts(0)).not.toBe(before);
    expect([...one.control.device.peers()].map(({ publicKey }) => formatKey(publicKey))).toEqual([three.asPeer.name]);
  });

  it.each([
    [4, '198.51.100.9', '203.0.113.7'],
    [6, '2001:db8:9::9', '2001:db8:7::7'],
    [4, '2001:db8:9::9', '2001:db8:7::7'],
    [6, '198.51.100.9', '203.0.113.7'],
  ] as const)(
    'a peer of IPv%i is followed to %s, where it speaks from, until its lease says something new',
    (...args) => {
      const [outer, roamsTo, movesTo] = args;
      const [one, two] = [new Host(1, 4, 1, outer), new Host(2, 4, 2, outer)];
      connect(one, two);
      const peer = one.numberOf(two.asPeer);
      const elsewhere = endpointOf(parseAddress(roamsTo)!, 4500);
      one.hear(two, elsewhere);
      expect(one.goesTo(peer)).toBe(formatEndpoint(elsewhere));
      one.control.setPeers([two.asPeer]);
      expect(one.goesTo(peer)).toBe(formatEndpoint(elsewhere));
      const moved = endpointOf(parseAddress(movesTo)!, 51_999);
      one.control.setPeers([{ ...two.asPeer, address: parseAddress(movesTo)!, port: 51_999 }]);
      expect(one.goesTo(peer)).toBe(formatEndpoint(moved));
      expect(one.control.statuses().get(peer)?.endpoint).toEqual(moved);
      one.sent.splice(0);
      one.time += 200_000;
      one.control.attend();
      one.seal(peer);
      one.control.attend();
      expect(one.sent.at(-1)?.to).toBe(formatEndpoint(moved));
    },
  );

  it('a peer that roams while forwarders hold all room for addresses is followed when they have let go', () => {
    // room for one peer is room for two addresses
    const [one, two] = [new Host(1, 1, 1, 6), new Host(2, 4, 2, 6)];
    connect(one, two);
    const peer = one.numberOf(two.asPeer);
    const places = [5, 6, 7].map((n) => endpointOf(parseIpv6(`2001:db8::${n}`)!, 4500));
    one.inTurn = true;
    for (const place of places) one.hear(two, place);
    expect(one.goesTo(peer)).not.toBe(formatEndpoint(places[2]!));
    one.inTurn = false;
    one.control.attend();
    expect(one.goesTo(peer)).toBe(formatEndpoint(places[2]!));
  });

  it('a peer of IPv6 alone is known by that, and its packets find it', () => {
    const [one, two] = [new Host(1), new Host(2, 4, 2, 6)];
    const known = { ...two.asPeer, subnet: null };
    expect(one.control.setPeers([known])).toEqual(new Map());
    expect([...one.plane.table.entries()]).toMatchObject([{ subnet: null, subnetV6: known.subnetV6 }]);
    expect(one.goesTo(one.numberOf(known))).toBe('[2001:db8::2]:51820');
  });

  it('a public key that nobody can have is refused, and has no route', () => {
    const [one, two] = [new Host(1), new Host(2)];
    const impossible = { ...two.asPeer, publicKey: new Uint8Array(32), name: 'zero' };
    expect([...one.control.setPeers([impossible])]).toEqual([
      ['10.5.2.0/24', 'its public key is one that nobody can have'],
    ]);
    expect(one.plane.table.size).toBe(0);
  });

  it('more peers than there is room for are refused by name; the others are there', () => {
    const one = new Host(1, 2);
    const others = [2, 3, 4].map((number) => new Host(number).asPeer);
    expect([...one.control.setPeers(others).keys()]).toEqual(['10.5.4.0/24']);
    expect([...one.control.device.peers()]).toHaveLength(2);
  });

  it('leaves no key behind', () => {
    const [one, two] = [new Host(1), new Host(2)];
    connect(one, two);
    one.control.close();
    expect(one.seal(0)).toBe(0);
    expect([...one.key.secret.bytes].some((byte) => byte !== 0)).toBe(false);
  });
});
