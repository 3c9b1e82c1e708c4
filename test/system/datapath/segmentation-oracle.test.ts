/**
 * The kernel as the judge of our splitting and merging. Super-packets are written to a TUN, forwarded, and cut by the
 * kernel at a veth device that has no segmentation or checksum offload; what comes out at its far end is what tweed's
 * own code must make of the same bytes.
 */
import { release } from 'node:os';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EXTENSION_DESTINATION, EXTENSION_HOP_BY_HOP, EXTENSION_ROUTING } from '../../../src/encap/wire/headers.js';
import { Merger } from '../../../src/encap/wire/merge.js';
import { completeChecksum } from '../../../src/encap/wire/segment.js';
import { control, syscalls } from '../../../src/linux/libc.js';
import { openTun } from '../../../src/tun/device.js';
import { arena, splitter } from '../../unit/encap/support/arena.js';
import {
  ACK,
  altered,
  CWR,
  corrupted,
  ECE,
  extended,
  FIN,
  fixHeaderChecksum,
  offloaded,
  PADDING,
  PSH,
  payload,
  type TcpFields,
  tcp,
  udp,
} from '../../unit/encap/support/packets.js';
import { concat, parse, sameBytes, setWord, TCP, type Vnet } from '../../unit/encap/support/reference.js';
import { probeKernel } from './support/kernel.js';
import { connect, Namespace } from './support/namespace.js';
import { forwarded } from './support/packet-changes.js';
import { Sniffer } from './support/sockets.js';

const MTU = 9000;
const EINVAL = 22;
/** The longest IP packet, and the most datagrams that the kernel cuts one super-packet into. */
const LONGEST = 65_535;
const MOST_DATAGRAMS = 128;
/** A packet that is what it seems. */
const PLAIN: Vnet = { flags: 0, type: 0, headerLength: 0, size: 0, start: 0, offset: 0 };
/** Its TCP super-packets with destination options or a routing header, which no program here writes, are lost where they are cut. */
const LOSES_TCP_BEHIND_EXTENSIONS = /^6\.12\./;

/** Without it the kernel neither makes nor takes UDP super-packets: it judges the splitting and merging of TCP alone. */
const { uso } = await probeKernel();

let router: Namespace;
let sink: Namespace;
let sniffer: Sniffer;
let tun = -1;

beforeAll(async () => {
  router = new Namespace();
  sink = new Namespace();
  await connect(router, 'out', sink, 'in', MTU);
  router.sysctl('ipv4/ip_forward', 1);
  router.sysctl('ipv6/conf/all/forwarding', 1);
  for (const name of ['all', 'default', 'out']) router.sysctl(`ipv4/conf/${name}/rp_filter`, 0);
  await router.run('ethtool', '-K', 'out', 'tx', 'off', 'tso', 'off', 'gso', 'off', 'tx-udp-segmentation', 'off');
  const device = router.enter(() => openTun('source', { tso: 'on', uso: 'auto' }));
  tun = device.fd;
  const far = JSON.parse((await sink.run('ip', '-json', 'link', 'show', 'in')).stdout)[0].address;
  await router.ip(
    'link set source mtu 9000 up',
    'address add 10.5.255.1/16 dev out',
    'address add fd00::ffff:1/64 dev out nodad',
    `neighbour add 10.5.2.2 lladdr ${far} dev out nud permanent`,
    `neighbour add fd00::2:0:2 lladdr ${far} dev out nud permanent`,
    `neighbour add fd00::2:2 lladdr ${far} dev out nud permanent`,
  );
  sniffer = new Sniffer(sink, 'in', 'in');
});

afterAll(() => {
  control.close(tun);
  sniffer?.close();
  router?.close();
  sink?.close();
});

/** Writes a packet with its virtio-net header. @returns the errno, 0 when it was taken */
function write({ flags, type, headerLength, size, start, offset }: Vnet, packet: Uint8Array): number {
  const bytes = Buffer.alloc(10 + packet.length);
  bytes[0] = flags;
  bytes[1] = type;
  for (const [i, word] of [headerLength, size, start, offset].entries()) bytes.writeUInt16LE(word, 2 + 2 * i);
  bytes.set(packet, 10);
  return control.write(tun, bytes, bytes.length) < 0 ? control.errno() : 0;
}

/** Our packets among what the sink's device sees, and none of the kernel's own. */
function isOurs(packet: Uint8Array): boolean {
  return packet[0]! >> 4 === 4 ? packet[16] === 10 : packet[24] === 0xfd;
}

/** What the kernel has made of what was written since the last call: waits for `count` packets. */
async function fromKernel(count: number): Promise<Uint8Array[]> {
  const packets = await sniffer.collect('packets cut by the kernel', count, isOurs);
  sniffer.seen.length = 0;
  return packets;
}

/** What the kernel has made of what was written since the last call, which can be nothing: waits for a packet that follows it. */
async function fromKernelBefore(last: Uint8Array): Promise<Uint8Array[]> {
  expect(write(PLAIN, last)).toBe(0);
  const mark = hex(forwarded(last));
  await sniffer.collect('a packet that follows', 1, (packet) => hex(packet) === mark);
  const packets = sniffer.seen.filter((packet) => isOurs(packet) && hex(packet) !== mark);
  sniffer.seen.length = 0;
  return packets;
}

const { split } = splitter();

/** Lets both cut the super-packet and compares. @param whole the super-packet as if it were one long packet */
async function expectSameSplit(whole: Uint8Array, size: number): Promise<void> {
  const { vnet, packet } = offloaded(whole, size);
  const ours = split(vnet, forwarded(packet));
  if (ours === null) throw new Error('refused by the segmenter');
  expect(write({ ...vnet, headerLength: packet.length - parse(packet).payload.length }, packet)).toBe(0);
  const theirs = await fromKernel(ours.length);
  expect(theirs.length).toBe(ours.length);
  const first = ours.findIndex((piece, i) => !sameBytes(piece, theirs[i]!));
  if (first >= 0) expect({ first, hex: hex(ours[first]!) }).toEqual({ first, hex: hex(theirs[first]!) });
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex').slice(0, 240);
}

const to = { source: [1, 2], destination: [2, 2] } as const;
const timestamps = [1, 1, 8, 10, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0];
const versions = [4, 6] as const;

describe.each(versions)('TCP over IPv%i is split as the kernel splits it', (version) => {
  const cases: readonly [string, number, number, Partial<TcpFields>][] = [
    ['an odd tail', 1448, 10_001, {}],
    ['a tail of one byte', 1448, 2 * 1448 + 1, {}],
    ['no tail', 1448, 5 * 1448, {}],
    ['odd segments', 1447, 20_000, {}],
    ['PSH', 1448, 10_000, { flags: ACK | PSH }],
    ['FIN and PSH', 1448, 10_000, { flags: ACK | PSH | FIN }],
    ['CWR', 1448, 10_000, { flags: ACK | CWR }],
    ['ECE', 1448, 10_000, { flags: ACK | ECE }],
    ['CWR, ECE, PSH and FIN with ECN marks', 1448, 10_000, { flags: ACK | CWR | ECE | PSH | FIN, tos: 0x2b }],
    ['timestamps', 1436, 30_000, { options: timestamps }],
    ['all the options that fit', 1408, 30_000, { options: Array(40).fill(1) }],
    ['an id that wraps', 1000, 20_000, { id: 65_530 }],
    ['an id that wraps, without DF', 1000, 20_000, { id: 65_530, fragment: 0 }],
    ['a sequence number that wraps', 1000, 20_000, { sequence: 2 ** 32 - 5500 }],
    ['many small segments', 100, 20_000, {}],
    ['the longest super-packet', 1448, LONGEST - 20 - 20, { fragment: 0 }],
    ['jumbo segments', 8928, 60_000, {}],
  ];
  it.each(cases)('%s', async (_name, size, length, fields) => {
    await expectSameSplit(tcp({ ...to, version, ...fields, payload: payload(length) }), size);
  });
});

describe.skipIf(!uso).each(versions)('UDP over IPv%i is split as the kernel splits it', (version) => {
  it.each([
    ['an odd tail', 1400, 10_001, {}],
    ['a tail of one byte', 1400, 1401, {}],
    ['odd datagrams', 1399, 30_000, {}],
    ['small datagrams', 1, MOST_DATAGRAMS, {}],
    ['many datagrams', 64, 64 * MOST_DATAGRAMS, {}],
    ['an id that wraps', 1000, 20_000, { id: 65_530, fragment: 0 }],
    ['the longest super-packet', 1444, LONGEST - 20 - 8, {}],
  ] as const)('%s', async (_name, size, length, fields) => {
    await expectSameSplit(udp({ ...to, version, ...fields, payload: payload(length) }), size);
  });

  it('a datagram whose checksum comes out as zero', async () => {
    const size = 100;
    const data = payload(3 * size);
    const whole = () => udp({ ...to, version, payload: data });
    // what the checksum of the second datagram would be is made its payload's last word, which takes it to zero
    setWord(data, 2 * size - 2, 0);
    const [, plain] = split(offloaded(whole(), size).vnet, offloaded(whole(), size).packet)!;
    const { transport } = parse(plain!);
    setWord(data, 2 * size - 2, transport[6]! * 256 + transport[7]!);
    const [, zero] = split(offloaded(whole(), size).vnet, offloaded(whole(), size).packet)!;
    expect(parse(zero!).transport.slice(6, 8)).toEqual(Uint8Array.of(0xff, 0xff));
    await expectSameSplit(whole(), size);
  });
});

describe('IPv6 with extension headers is split as the kernel splits it', () => {
  const chains: readonly [string, readonly (readonly [number, Uint8Array])[]][] = [
    ['hop-by-hop options', [[EXTENSION_HOP_BY_HOP, PADDING]]],
    ['destination options', [[EXTENSION_DESTINATION, PADDING]]],
    ['a routing header that has been used up', [[EXTENSION_ROUTING, Uint8Array.of(0, 0, 4, 0, 0, 0, 0, 0)]]],
    ['several', [EXTENSION_HOP_BY_HOP, EXTENSION_DESTINATION, EXTENSION_DESTINATION].map((type) => [type, PADDING])],
  ];
  const transports = [
    ['TCP', (data: Uint8Array) => tcp({ ...to, version: 6, flags: ACK | PSH, options: timestamps, payload: data })],
    ['UDP', (data: Uint8Array) => udp({ ...to, version: 6, payload: data })],
  ] as const;
  const cases = transports
    .filter(([name]) => name === 'TCP' || uso)
    .flatMap(([name, make]) => chains.map(([what, chain]) => [name, what, make, chain] as const));

  it.each(cases)('%s behind %s', async (name, _what, make, chain) => {
    const size = 1200;
    const { vnet, packet: plain } = offloaded(make(payload(10_001)), size);
    const packet = extended(plain, ...chain);
    const start = vnet.start + packet.length - plain.length;
    const ours = split({ ...vnet, start }, forwarded(packet));
    expect(ours).toHaveLength(9);
    expect(write({ ...vnet, start, headerLength: packet.length - 10_001 }, packet)).toBe(0);
    const theirs = await fromKernelBefore(udp({ ...to, version: 6, payload: Uint8Array.of(1, 2, 3) }));
    if (theirs.length === 0) {
      // no judge then: where it cuts at all, it cuts like this
      expect([name, release()]).toEqual(['TCP', expect.stringMatching(LOSES_TCP_BEHIND_EXTENSIONS)]);
      return;
    }
    expect(theirs.map(hex)).toEqual(ours?.map(hex));
    expect(theirs.every((piece, i) => sameBytes(piece, ours?.[i] as Uint8Array))).toBe(true);
  });

  it('and neighbours are left apart, each as it came', async () => {
    const packets = Array.from({ length: 10 }, (_, i) =>
      extended(tcp({ ...to, version: 6, sequence: i * 500, payload: payload(500, i) }), [
        EXTENSION_DESTINATION,
        PADDING,
      ]),
    );
    const { memory, sum, regions, u8 } = arena(64 * 65_536);
    const merger = new Merger(memory, regions, sum, { tcp: true, udp: uso });
    const space = regions.take(10 * 1000);
    for (const [i, packet] of packets.entries()) {
      u8.set(packet, space + i * 1000);
      merger.add(space + i * 1000, packet.length);
    }
    expect(merger.items.count).toBe(packets.length);
    for (let item = 0; item < packets.length; item++) {
      merger.items.finish(item);
      const at = memory.base + merger.items.iov(item);
      expect(syscalls.writev(tun, at, merger.items.iovCount(item))).toBeGreaterThan(0);
    }
    expect((await fromKernel(10)).map(hex)).toEqual(packets.map(forwarded).map(hex));
  });
});

const fields = {
  version: fc.constantFrom(...versions),
  ttl: fc.integer({ min: 2, max: 255 }),
  tos: fc.nat(255),
  id: fc.nat(65_535),
  fragment: fc.constantFrom(0, 0x4000),
  flowLabel: fc.nat(0xfffff),
  sourcePort: fc.nat(65_535),
  destinationPort: fc.nat(65_535),
  sequence: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  acknowledgement: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  flags: fc.subarray([PSH, FIN, ECE, CWR]).map((set) => set.reduce((all, flag) => all | flag, ACK)),
  window: fc.nat(65_535),
  urgent: fc.nat(65_535),
  options: fc.constantFrom<number[]>([], timestamps, Array(40).fill(1)),
};

describe('any super-packet', () => {
  it('is split as the kernel splits it', async () => {
    const anySuperPacket = fc.record({
      isTcp: uso ? fc.boolean() : fc.constant(true),
      size: fc.oneof(fc.integer({ min: 8, max: 200 }), fc.integer({ min: 8, max: 8800 })),
      segments: fc.integer({ min: 2, max: MOST_DATAGRAMS }),
      tail: fc.nat(8800),
      seed: fc.nat(255),
      ...fields,
    });
    await fc.assert(
      fc.asyncProperty(anySuperPacket, async ({ isTcp, size, segments, tail, seed, ...rest }) => {
        const length = Math.min(size * segments - (tail % size), LONGEST - 100);
        const all = { ...to, ...rest, payload: payload(length, seed) };
        await expectSameSplit(isTcp ? tcp(all) : udp(all), size);
      }),
      { numRuns: 300 },
    );
  });

  it('that is only one packet gets the checksum that the kernel gives it', async () => {
    const { memory, sum, regions, u8 } = arena(2 * 65_536);
    const at = regions.take(10_000);
    const anyPacket = fc.record({ isTcp: fc.boolean(), length: fc.nat(8800), seed: fc.nat(255), ...fields });
    await fc.assert(
      fc.asyncProperty(anyPacket, async ({ isTcp, length, seed, ...rest }) => {
        const all = { ...to, ...rest, payload: payload(length, seed) };
        const { vnet, packet } = offloaded(isTcp ? tcp(all) : udp(all));
        u8.set(forwarded(packet), at);
        expect(completeChecksum(memory, sum, at, packet.length, vnet.start, vnet.offset)).toBe(true);
        expect(write(vnet, packet)).toBe(0);
        const [theirs] = await fromKernel(1);
        expect(hex(u8.slice(at, at + packet.length))).toBe(hex(theirs!));
        expect(sameBytes(u8.slice(at, at + packet.length), theirs!)).toBe(true);
      }),
      { numRuns: 100 },
    );
  });
});

describe('what tweed merges', () => {
  const { memory, sum, regions, u8 } = arena(64 * 65_536);
  const merger = new Merger(memory, regions, sum, { tcp: true, udp: uso });
  const space = regions.take(4 << 20);

  /** Merges the packets and writes what comes of them to the TUN. @returns how many writes that took */
  function mergeAndWrite(packets: readonly Uint8Array[]): number {
    let at = space;
    for (const packet of packets) {
      u8.set(packet, at);
      merger.add(at, packet.length);
      at += packet.length;
    }
    const writes = merger.items.count;
    for (let item = 0; item < writes; item++) {
      merger.items.finish(item);
      const written = syscalls.writev(tun, memory.base + merger.items.iov(item), merger.items.iovCount(item));
      if (written < 0) throw new Error(`the kernel refused item ${item}: errno ${syscalls.errno()}`);
    }
    merger.reset();
    return writes;
  }

  /** Merged and cut by the kernel again, the packets of every flow must be what they were, in the order they had. */
  async function expectRestored(packets: readonly Uint8Array[]): Promise<number> {
    const writes = mergeAndWrite(packets);
    const theirs = await fromKernel(packets.length);
    expect(theirs.length).toBe(packets.length);
    const ours = byFlow(packets.map(forwarded));
    for (const [flow, mine] of byFlow(theirs)) {
      const wanted = ours.get(flow) ?? [];
      const same = sameBytes(concat(...mine.map(withoutFreeId)), concat(...wanted.map(withoutFreeId)));
      expect(same, `flow ${flow}`).toBe(true);
    }
    return writes;
  }

  /** Where DF is set the id means nothing (RFC 6864 section 4.1), and a merge may give it up. */
  function withoutFreeId(packet: Uint8Array): Uint8Array {
    const { version, fragment } = parse(packet);
    return version === 4 && fragment === 0x4000 ? fixHeaderChecksum(altered(packet, { 4: 0, 5: 0 })) : packet;
  }

  function byFlow(packets: readonly Uint8Array[]): Map<string, Uint8Array[]> {
    const flows = new Map<string, Uint8Array[]>();
    for (const packet of packets) {
      const { protocol, sourcePort, payload: data } = parse(packet);
      // a segment may overtake a pure acknowledgement, see merge.ts
      const flow = [protocol, sourcePort, protocol === TCP && data.length === 0 ? 'no data' : 'data'].join(' ');
      flows.set(flow, [...(flows.get(flow) ?? []), packet]);
    }
    return flows;
  }

  it.each(versions)('the kernel takes and cuts into the packets that came (IPv%i)', async (version) => {
    const segments = (count: number, size: number, seed: number, more: Partial<TcpFields> = {}) =>
      Array.from({ length: count }, (_, i) =>
        tcp({ ...to, version, sequence: 1000 + i * size, id: 100 + i, payload: payload(size, seed + i), ...more }),
      );
    const datagrams = Array.from({ length: 30 }, (_, i) =>
      udp({ ...to, version, id: 500 + i, payload: payload(i === 29 ? 77 : 1200, i) }),
    );
    expect(await expectRestored(segments(40, 1448, 0))).toBe(1);
    expect(await expectRestored(segments(40, 1436, 1, { options: timestamps, fragment: 0 }))).toBe(1);
    expect(await expectRestored(segments(64, 8, 5))).toBe(1);
    expect(await expectRestored(segments(64, 7, 6))).toBe(64); // some kernels do not cut into such
    expect(await expectRestored(segments(10, 1001, 2, { flags: ACK | ECE, tos: 2 }))).toBe(1);
    const writesOfDatagrams = uso ? 1 : datagrams.length;
    expect(await expectRestored(datagrams)).toBe(writesOfDatagrams);
    const tiny = datagrams.map((_, i) => udp({ ...to, version, id: i, payload: payload(1, i) }));
    expect(await expectRestored(tiny)).toBe(writesOfDatagrams);
    expect(
      await expectRestored([...segments(20, 900, 3), ...datagrams, ...segments(20, 800, 4, { sourcePort: 7 })]),
    ).toBe(2 + writesOfDatagrams);
  });

  it('whatever came', async () => {
    const step = fc.record({
      flow: fc.nat(3),
      isTcp: uso ? fc.boolean() : fc.constant(true),
      length: fc.constantFrom(0, 1, 77, 500, 500, 500, 500, 1448, 1448, 1448),
      jump: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 0, 1, 5000),
      flags: fc.constantFrom(ACK, ACK, ACK, ACK, ACK, ACK | PSH, ACK | ECE, ACK | FIN, ACK | CWR),
      ttl: fc.constantFrom(63, 63, 63, 63, 63, 62),
    });
    let packetsSeen = 0;
    let writesSeen = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...versions),
        fc.constantFrom(0, 0x4000),
        fc.array(step, { minLength: 40, maxLength: 200 }),
        async (version, fragment, steps) => {
          const sequences = new Map<string, number>();
          const ids = new Map<string, number>();
          const packets = steps.map(({ flow, isTcp, length, jump, ...rest }, i) => {
            const key = `${flow} ${isTcp}`;
            const id = ((ids.get(key) ?? 0) + 1 + (jump === 1 ? 1 : 0)) & 0xffff;
            const sequence = (sequences.get(key) ?? 0) + jump;
            ids.set(key, id);
            sequences.set(key, sequence + length);
            const all = { ...to, version, fragment, id, sequence, sourcePort: 4000 + flow, ...rest };
            return isTcp ? tcp({ ...all, payload: payload(length, i) }) : udp({ ...all, payload: payload(length, i) });
          });
          packetsSeen += packets.length;
          writesSeen += await expectRestored(packets);
        },
      ),
      { numRuns: 150 },
    );
    expect(writesSeen).toBeLessThan(packetsSeen * 0.95);
  });

  it('a corrupted packet comes out as corrupted as it came', async () => {
    for (const wrong of [0, 1, 5, 9]) {
      const packets = Array.from({ length: 10 }, (_, i) => {
        const good = tcp({ ...to, sequence: i * 500, payload: payload(500, i) });
        return i === wrong ? corrupted(good) : good;
      });
      await expectRestored(packets);
      const small = Array.from({ length: 10 }, (_, i) => {
        const good = udp({ ...to, payload: payload(500, i) });
        return i === wrong ? altered(good, { [good.length - 3]: 0x55 }) : good;
      });
      await expectRestored(small);
    }
  });
});

it('the kernel refuses what the segmenter refuses', () => {
  const whole = tcp({ ...to, payload: payload(3000) });
  const { vnet, packet } = offloaded(whole, 1000);
  for (const wrong of [
    { ...vnet, size: 0 },
    { ...vnet, start: packet.length },
    { ...vnet, type: 7 },
  ]) {
    expect(split(wrong, packet)).toBeNull();
    expect(write(wrong, packet)).toBe(EINVAL);
  }
});
