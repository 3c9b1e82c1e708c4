import { describe, expect, it } from 'vitest';
import { EINVAL, EIO, EMSGSIZE } from '../../../src/linux/constants.js';
import type { TunRead } from './support/fake-kernel.js';
import { addressOf4, altered, icmp, ip, offloaded, payload, tcp, udp } from './support/packets.js';
import { NO_OFFLOAD, parseIcmpError } from './support/reference.js';
import { ICMP_SOURCE, type Workbench, workbench } from './support/workbench.js';

function drain(reads: readonly TunRead[], bench: Workbench = workbench(), pathMtu = 1400): Workbench {
  bench.kernel.tunReads.push(...reads);
  bench.tx(() => pathMtu).turn();
  return bench;
}

const nowhere = (seed = 0) => udp({ destination: [200, 1], payload: payload(50, seed) });

describe('a packet that no host has leased the destination of', () => {
  it('is answered with "net unreachable" into the TUN', () => {
    const packet = nowhere();
    const { kernel, counted } = drain([{ packet }]);
    expect(kernel.written).toMatchObject([{ vnet: NO_OFFLOAD, iovCount: 2 }]);
    expect(parseIcmpError(kernel.written[0]!.packet)).toMatchObject({
      from: ICMP_SOURCE,
      to: addressOf4([1, 2]),
      type: 3,
      code: 0,
      quoted: packet,
    });
    expect(counted('tx')).toEqual({ turns: 1, reads: 1, icmp_sent: 1 });
  });

  it('is answered once if it is a super-packet', () => {
    const { kernel, dropped } = drain([offloaded(tcp({ destination: [200, 1], payload: payload(60_000) }), 1400)]);
    expect(kernel.written).toHaveLength(1);
    expect(kernel.written[0]!.packet.length).toBe(576);
    expect(dropped('tx')).toEqual({ no_route: 1 });
  });

  it.each<[string, Uint8Array]>([
    ['an ICMP error', icmp(3, { destination: [200, 1] })],
    ['a later fragment', ip(17, payload(64), { destination: [200, 1], fragment: 100 })],
    ['a multicast', altered(nowhere(), { 16: 224 })],
  ])('is not answered if it is %s', (_, packet) => {
    const { kernel, counted, dropped } = drain([{ packet }]);
    expect(kernel.writes).toEqual([]);
    expect(counted('tx')).toEqual({ turns: 1, reads: 1 });
    expect(dropped('tx')).toEqual({ no_route: 1 });
  });

  it('is answered only so often, and the rest is counted', () => {
    const bench = workbench({ icmpPerSecond: 0, icmpBurst: 3 });
    const { kernel, counted, dropped } = drain(
      Array.from({ length: 10 }, (_, i) => ({ packet: nowhere(i) })),
      bench,
    );
    expect(kernel.written).toHaveLength(3);
    expect(counted('tx')).toEqual({ turns: 1, reads: 10, icmp_sent: 3, icmp_suppressed: 7 });
    expect(dropped('tx')).toEqual({ no_route: 10 });
  });

  it('takes nothing from the limit when it is not answered anyway', () => {
    const bench = workbench({ icmpPerSecond: 0, icmpBurst: 1 });
    const quiet = Array.from({ length: 5 }, () => ({ packet: icmp(3, { destination: [200, 1] }) }));
    const { counted } = drain([...quiet, { packet: nowhere() }], bench);
    expect(counted('tx')).toMatchObject({ icmp_sent: 1 });
  });

  it('disturbs nothing when the answer cannot be written', () => {
    const bench = workbench();
    bench.kernel.onWrite = () => EIO;
    const good = udp({ payload: payload(10) });
    const { kernel, counted } = drain([{ packet: good }, { packet: nowhere() }, { packet: good }], bench);
    expect(kernel.datagrams).toHaveLength(2);
    expect(counted('tx')).not.toHaveProperty('icmp_sent');
  });

  it('is dropped without a word while there may be peers that we have not heard of', () => {
    const bench = workbench();
    bench.control.peersComplete = false;
    const good = udp({ payload: payload(10) });
    const { kernel, counted, dropped } = drain([{ packet: nowhere() }, { packet: good }], bench);
    expect(kernel.datagrams).toHaveLength(1);
    expect(kernel.writes).toEqual([]);
    expect(counted('tx')).not.toHaveProperty('icmp_suppressed');
    expect(dropped('tx')).toEqual({ no_route_yet: 1 });
    bench.control.peersComplete = true;
    drain([{ packet: nowhere() }], bench);
    expect(kernel.writes).toHaveLength(1);
    expect(dropped('tx')).toEqual({ no_route_yet: 1, no_route: 1 });
  });

  it('is answered without a virtio-net header where the TUN has none', () => {
    const { kernel } = drain([{ packet: nowhere() }], workbench({ vnetHeader: false }));
    expect(kernel.written).toMatchObject([{ iovCount: 1 }]);
    expect(parseIcmpError(kernel.written[0]!.packet)).toMatchObject({ type: 3, code: 0 });
  });
});

describe('a packet whose TTL runs out here', () => {
  it.each([0, 1])('is answered with "time exceeded", TTL %i', (ttl) => {
    const packet = udp({ ttl, payload: payload(50) });
    const { kernel } = drain([{ packet }]);
    expect(kernel.datagrams).toEqual([]);
    expect(parseIcmpError(kernel.written[0]!.packet)).toMatchObject({
      from: ICMP_SOURCE,
      type: 11,
      code: 0,
      quoted: packet,
    });
  });

  it('is answered once if it is a super-packet', () => {
    const { kernel } = drain([offloaded(tcp({ ttl: 1, payload: payload(60_000) }), 1400)]);
    expect(kernel.written).toHaveLength(1);
  });
});

describe('a packet that is too long for the path of its peer', () => {
  const long = (fields = {}) => tcp({ payload: payload(4 * 1400), ...fields });
  /** A bench whose sockets refuse segmented sends of long datagrams. */
  function refusing(): Workbench {
    const bench = workbench();
    bench.kernel.onSend = ({ segmentSize }) => (segmentSize > 1372 ? EMSGSIZE : 0);
    return bench;
  }

  it('goes out singly, and its sender is told what would fit: the path less the outer headers', () => {
    const whole = long();
    const { kernel, counted, dropped } = drain([offloaded(whole, 1400)], refusing());
    expect(kernel.datagrams).toHaveLength(4);
    expect(kernel.written).toHaveLength(1);
    const error = parseIcmpError(kernel.written[0]!.packet);
    expect(error).toMatchObject({ from: ICMP_SOURCE, to: addressOf4([1, 2]), type: 3, code: 4, mtu: 1372 });
    expect(error.quoted).toEqual(kernel.datagrams[0]!.slice(0, 40));
    expect(counted('tx')).toMatchObject({ icmp_sent: 1, replayed_packets: 4, packets: 4 });
    expect(dropped('tx')).toEqual({});
  });

  it('goes out in fragments and is answered when it is a single packet too', () => {
    const bench = workbench();
    bench.kernel.onSend = () => (bench.fragments.at(-1) ? 0 : EMSGSIZE);
    const { kernel } = drain([{ packet: udp({ payload: payload(1400) }) }], bench);
    expect(kernel.datagrams).toHaveLength(1);
    const error = parseIcmpError(kernel.written[0]!.packet);
    expect(error).toMatchObject({ type: 3, code: 4, mtu: 1372 });
    expect(error.quoted).toEqual(kernel.datagrams[0]!.slice(0, 548));
  });

  it('is told once per refused send', () => {
    const { kernel } = drain([offloaded(long(), 1400), offloaded(long({ destination: [3, 1] }), 1400)], refusing());
    expect(kernel.written).toHaveLength(2);
  });

  it('is not answered if it may be fragmented', () => {
    const { kernel } = drain([offloaded(long({ fragment: 0 }), 1400)], refusing());
    expect(kernel.datagrams).toHaveLength(4);
    expect(kernel.writes).toEqual([]);
  });

  it.each([
    ['is not known', 0],
    ['is shorter than any packet', 50],
  ])('is not answered if the path MTU %s', (_, mtu) => {
    const { kernel } = drain([offloaded(long(), 1400)], refusing(), mtu);
    expect(kernel.datagrams).toHaveLength(4);
    expect(kernel.writes).toEqual([]);
  });

  it('is not answered if its sender already keeps to what the path can carry', () => {
    const { kernel } = drain([offloaded(long(), 1400)], refusing(), 1500);
    expect(kernel.writes).toEqual([]);
  });

  it.each([
    ['too small by a byte', 1467, 0, 1],
    ['just large enough', 1468, EINVAL, 0],
    ['not known, so neither is blamed', 0, 0, 0],
  ])(
    'is told from a kernel that does not segment, where both answer EINVAL: the path is %s',
    (...[, mtu, off, answers]) => {
      const bench = workbench();
      bench.kernel.onSend = ({ segmentSize }) => (segmentSize > 0 ? EINVAL : 0);
      const { kernel, control } = drain([offloaded(long(), 1400)], bench, mtu); // 1440 bytes, 1468 on the underlay
      expect(kernel.datagrams).toHaveLength(4);
      expect(control.turnedOff('udp_gso')).toBe(off);
      expect(kernel.written).toHaveLength(answers);
    },
  );

  it('is told by what path it went', () => {
    const bench = refusing();
    const asked: number[] = [];
    bench.kernel.tunReads.push(offloaded(long({ destination: [3, 1] }), 1400));
    bench
      .tx((peer) => {
        asked.push(peer);
        return 1400;
      })
      .turn();
    expect(asked).toEqual([1]);
  });
});
