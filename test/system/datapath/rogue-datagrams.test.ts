/**
 * A million datagrams that nobody may send, a third by each setting of the kernel path, through real devices, amid a flow that goes on: none of them gets in, each is
 * counted under its reason, whoever judges it. They are sent raw, so that any address can be forged.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { altered, fixHeaderChecksum, ip, payload, udp } from '../../unit/encap/support/packets.js';
import { plainSum, setLong, setWord, UDP } from '../../unit/encap/support/reference.js';
import { carriedByKernel, expectInForce } from '../kernel-path/support/by.js';
import { address, leaseOf, PORT } from './support/host.js';
import { useSite } from './support/site.js';
import { RawIp, Sniffer, Udp } from './support/sockets.js';
import { until } from './support/until.js';

/** raw(7): the caller writes the IP header. */
const IPPROTO_RAW = 255;
const ROGUES = 334_000;
/** Fewer than a processor's queue for packets from devices of software holds. */
const BURST = 500;
const ROGUE = address('192.168.77.99');

const site = useSite({ hosts: 3 });
beforeAll(() => site().switch.ip('address add 192.168.77.99/24 dev br0'));

/** The addresses and ports of a datagram, and what is wrong around its inner packet. */
interface Outer {
  readonly from: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** 0: none, as the kernel path sends it. */
  readonly checksum?: 'none' | 'right' | 'wrong';
}

function datagram(inner: Uint8Array, outer: Outer): Uint8Array {
  const { from, sourcePort = PORT, destinationPort = PORT, checksum = 'none' } = outer;
  const length = 8 + inner.length;
  const packet = ip(UDP, new Uint8Array(length), { fragment: 0x4000, ttl: 64 });
  setLong(packet, 12, from);
  setLong(packet, 16, site().host(1).publicIp);
  setWord(packet, 20, sourcePort);
  setWord(packet, 22, destinationPort);
  setWord(packet, 24, length);
  packet.set(inner, 28);
  if (checksum !== 'none') {
    // the pseudo-header: addresses, protocol, length
    const pseudo = Uint8Array.from([...packet.slice(12, 20), 0, UDP, length >> 8, length & 0xff, ...packet.slice(20)]);
    const right = 0xffff - plainSum(pseudo) || 0xffff;
    setWord(packet, 26, checksum === 'right' ? right : right ^ 0x0101);
  }
  return fixHeaderChecksum(packet);
}

const ways = {
  source: [2, 2],
  destination: [1, 2],
  ttl: 60,
  fragment: 0,
  sourcePort: 5000,
  destinationPort: 6000,
} as const;
/** A packet of the flow that goes on, but for what is said. */
const inner = (fields: Parameters<typeof udp>[0] = {}) => udp({ ...ways, payload: payload(64), ...fields });

/** Each kind with the reason that it is counted under. Of the kernel's own counters, those begin with `Udp`. */
function rogues(): readonly (readonly [reason: string, packet: Uint8Array])[] {
  const [two, three] = [site().host(2).publicIp, site().host(3).publicIp];
  const forged = (packet: Uint8Array) => datagram(packet, { from: two });
  const outside = inner();
  setLong(outside, 16, address('192.168.77.1'));
  return [
    ['rx_unknown_sender', datagram(inner(), { from: ROGUE })],
    ['rx_unknown_sender', datagram(inner(), { from: ROGUE, checksum: 'right' })],
    ['rx_unknown_sender', datagram(payload(1000, 3), { from: ROGUE })],
    ['rx_unknown_sender', datagram(new Uint8Array(0), { from: ROGUE })],
    ['rx_unknown_sender', datagram(inner(), { from: address('203.0.113.9') })],
    ['rx_unknown_sender', datagram(inner(), { from: two, sourcePort: PORT + 1 })],
    // the very flow that is under way, from another peer
    ['rx_spoofed_source', datagram(inner(), { from: three })],
    ['rx_spoofed_source', datagram(inner(), { from: three, checksum: 'right' })],
    ['rx_spoofed_source', forged(inner({ source: [3, 2] }))],
    ['rx_spoofed_source', forged(inner({ source: [1, 9] }))],
    ['rx_spoofed_source', forged(inner({ source: [99, 2] }))],
    ['rx_foreign_destination', forged(inner({ destination: [3, 2] }))],
    ['rx_foreign_destination', forged(inner({ destination: [2, 2] }))],
    ['rx_foreign_destination', forged(fixHeaderChecksum(outside))],
    ['rx_bad_header_checksum', forged(altered(inner(), { 10: 0x12, 11: 0x34 }))],
    ['rx_bad_header_checksum', forged(altered(inner(), { 1: 4 }))],
    ['rx_bad_length', forged(inner().slice(0, 60))],
    ['rx_bad_length', forged(Uint8Array.from([...inner(), 0, 0]))],
    ['rx_bad_version', forged(altered(inner(), { 0: 0x55 }))],
    ['rx_bad_header', forged(altered(inner(), { 0: 0x44 }))],
    ['rx_short', forged(inner().slice(0, 19))],
    ['rx_ttl_zero', forged(inner({ ttl: 0 }))],
    ['Udp NoPorts', datagram(inner(), { from: two, destinationPort: PORT + 1 })],
    // what the kernel refuses on the way into the socket, for whatever reason
    ['rx_socket_queue_full', datagram(inner(), { from: two, checksum: 'wrong' })],
  ];
}

describe.each(['off', 'route', 'direct'] as const)('with -kernel-path=%s', (kernelPath) => {
  it('hundreds of thousands of rogue datagrams: none gets in, each is counted under its reason', {
    timeout: 600_000,
  }, async () => {
    const [one, two, three] = [site().host(1), site().host(2), site().host(3)];
    // whatever is usual for new namespaces: it is not the kernel that is to refuse them
    for (const device of ['all', 'eth0']) one.namespace.sysctl(`ipv4/conf/${device}/rp_filter`, 0);
    const peers = [two, three].map(({ number, publicIp }) => leaseOf(number, publicIp, kernelPath));
    await one.process.start(one.publicIp, site().mtu, peers, { kernelPath });
    await expectInForce([one], kernelPath);
    // only host 1 has a data path: this is the second one's, at the address and port that it would have; as a kernel path sends
    const peer = new Udp(two.namespace, { address: two.publicIp, port: PORT, noChecksum: kernelPath !== 'off' });
    const service = new Udp(one.container, { port: ways.destinationPort });
    let exchanges = 0;
    /** The container is asked and answers, so the flow is one that may go straight to it. */
    const exchange = async () => {
      const question = Buffer.from(`question ${++exchanges}`);
      peer.send(inner({ payload: question }), one.publicIp, PORT);
      await until('the container is asked', () => {
        const asked = service.receive();
        for (const { data } of asked) expect(data.equals(question)).toBe(true);
        for (const { data, address: asker, port } of asked) service.send(data, address(asker), port);
        return asked.length > 0;
      });
      await until('its answer arrives', () => peer.receive().length > 0);
    };
    for (let i = 0; i < 3; i++) await exchange();

    const sniffer = new Sniffer(one.container, 'eth0', 'in');
    const isIpv4 = (packet: Buffer) => packet[0] === 0x45;
    const kinds = rogues();
    const expected = new Map<string, number>(kinds.map(([reason]) => [reason, 0]));
    const before = new Map<string, number>();
    const counted = async () => {
      const { drops } = await one.process.status();
      const counts = new Map<string, number>();
      for (const [name, count] of Object.entries(drops)) if (name.startsWith('rx_')) counts.set(name, count);
      for (const reason of expected.keys()) {
        const [protocol, name] = reason.split(' ') as [string, string?];
        if (name !== undefined) counts.set(reason, one.namespace.counter(protocol, name) - (before.get(reason) ?? 0));
      }
      return counts;
    };
    for (const [reason, count] of await counted()) before.set(reason, count);
    const sumOf = (counts: ReadonlyMap<string, number>) => [...counts.values()].reduce((sum, count) => sum + count, 0);

    const raw = new RawIp(site().switch, IPPROTO_RAW);
    const startedAt = exchanges;
    const byKernel = await carriedByKernel(one);
    for (let sent = 0; sent < ROGUES; ) {
      for (let i = 0; i < BURST; i++, sent++) {
        const [reason, packet] = kinds[sent % kinds.length]!;
        raw.send(packet, one.publicIp);
        expected.set(reason, (expected.get(reason) ?? 0) + 1);
      }
      await until('everything is counted', async () => sumOf(await counted()) >= sent);
      if ((sent / BURST) % 50 === 0) await exchange();
    }
    const counts = await counted();
    expect(new Map([...counts].filter(([, count]) => count > 0))).toEqual(expected);
    const questions = exchanges - startedAt;
    expect(sniffer.drain().filter(isIpv4).length).toBe(questions);
    if (kernelPath !== 'off') expect((await carriedByKernel(one)) - byKernel).toBe(2 * questions);
  });
});
