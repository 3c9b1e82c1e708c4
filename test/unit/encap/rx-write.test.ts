import { describe, expect, it } from 'vitest';
import { MOST_REFUSALS } from '../../../src/encap/datapath/refusals.js';
import { EBADFD, EINVAL, EIO, ENOBUFS, ENOMEM } from '../../../src/linux/constants.js';
import type { TunWrite } from './support/fake-kernel.js';
import { payload } from './support/packets.js';
import { datagram, delivered, forwarded, inboundTcp, inboundUdp, receive } from './support/receiving.js';
import { NO_OFFLOAD } from './support/reference.js';
import { type Workbench, workbench } from './support/workbench.js';

const segments = (count: number, sourcePort = 1000) =>
  Array.from({ length: count }, (_, i) =>
    inboundTcp({
      sourcePort,
      sequence: i * 100,
      id: i,
      payload: payload(100, i),
      flags: i === count - 1 ? 0x18 : 0x10,
    }),
  );
const datagrams = (count: number) =>
  Array.from({ length: count }, (_, i) => inboundUdp({ id: i, payload: payload(100, i) }));

/** A bench whose TUN refuses merged writes. */
function refusingMerges(errno: number, which: (write: Omit<TunWrite, 'errno'>) => boolean = () => true): Workbench {
  const bench = workbench();
  bench.kernel.onWrite = (write) => (write.vnet.type !== 0 && which(write) ? errno : 0);
  return bench;
}

describe('a merged write that the kernel refuses with EINVAL', () => {
  it('is written again as the packets that came, in order, byte for byte', () => {
    const packets = [...segments(5), inboundTcp({ sourcePort: 1000, sequence: 500, payload: payload(100) })];
    const bench = receive(
      packets.map((packet) => datagram(packet)),
      refusingMerges(EINVAL),
    );
    expect(bench.kernel.written.map(({ packet }) => packet)).toEqual(packets.map(forwarded));
    expect(bench.kernel.written.every(({ vnet }) => vnet.type === 0 && vnet.flags === 0)).toBe(true);
    expect(bench.counted('rx')).toMatchObject({ replayed_packets: 5, writes: 6, packets: 6 });
    expect(bench.counted('rx')).not.toHaveProperty('merged_writes');
    expect(bench.dropped('rx')).toEqual({});
  });

  it('turns merging off for good, and nothing is merged or replayed any more', () => {
    const bench = refusingMerges(EINVAL);
    const forwarder = bench.rx();
    for (let round = 0; round < 3; round++) {
      bench.kernel.arrivals.push(...segments(4).map((packet) => datagram(packet)));
      forwarder.turn();
    }
    expect(bench.control.turnedOff('merge_tcp')).toBe(EINVAL);
    expect(bench.control.turnedOff('merge_udp')).toBe(0);
    expect(bench.kernel.writes.filter(({ errno }) => errno !== 0)).toHaveLength(1);
    expect(bench.counted('rx')).toMatchObject({ replayed_packets: 4, writes: 12 });
    expect(delivered(bench)).toEqual([...segments(4), ...segments(4), ...segments(4)].map(forwarded));
  });

  it('turns off UDP alone when it was UDP', () => {
    const bench = refusingMerges(EINVAL, ({ vnet }) => vnet.type === 5);
    const packets = [...segments(3), ...datagrams(3)];
    receive(
      packets.map((packet) => datagram(packet)),
      bench,
    );
    expect(bench.control.turnedOff('merge_udp')).toBe(EINVAL);
    expect(bench.control.turnedOff('merge_tcp')).toBe(0);
    expect(delivered(bench)).toEqual(packets.map(forwarded));
    expect(bench.counted('rx')).toMatchObject({ merged_writes: 1, merged_packets: 3, replayed_packets: 3 });
  });

  it('affects every merged packet of the same wake-up, and each is replayed once', () => {
    const packets = [1, 2, 3].flatMap((port) => segments(3, port));
    const bench = receive(
      packets.map((packet) => datagram(packet)),
      refusingMerges(EINVAL),
    );
    expect(delivered(bench)).toEqual(packets.map(forwarded));
    expect(bench.counted('rx')).toMatchObject({ replayed_packets: 9, writes: 9 });
  });

  it('drops only those of its packets that are refused singly too', () => {
    const packets = segments(4);
    const bench = workbench();
    const refused = forwarded(packets[2]!);
    bench.kernel.onWrite = ({ vnet, packet }) =>
      vnet.type !== 0 || Buffer.compare(packet, refused) === 0 ? EINVAL : 0;
    receive(
      packets.map((packet) => datagram(packet)),
      bench,
    );
    expect(delivered(bench)).toEqual([0, 1, 3].map((i) => forwarded(packets[i]!)));
    expect(bench.dropped('rx')).toEqual({ tun_write_error: 1 });
  });
});

describe('merging that was turned off', () => {
  const arrive = (bench: Workbench) =>
    receive(
      segments(3).map((packet) => datagram(packet)),
      bench,
    );

  it('is used again when it is turned on again, from the next turn on', () => {
    const bench = refusingMerges(EINVAL);
    arrive(bench);
    bench.kernel.onWrite = () => 0;
    arrive(bench);
    expect(bench.counted('rx')).not.toHaveProperty('merged_writes');
    bench.control.turnOn('merge_tcp');
    arrive(bench);
    expect(bench.counted('rx')).toMatchObject({ merged_writes: 1, merged_packets: 3, replayed_packets: 3 });
  });

  it('is given up for good when it is refused time after time, not for many refusals at once', () => {
    const bench = refusingMerges(EINVAL);
    const forwarder = bench.rx();
    const turn = () => {
      const packets = [1, 2, 3, 4, 5, 6, 7, 8].flatMap((port) => segments(3, port));
      bench.kernel.arrivals.push(...packets.map((packet) => datagram(packet)));
      forwarder.turn();
    };
    for (let refusals = 1; refusals < MOST_REFUSALS; refusals++) {
      turn();
      expect(bench.control.offForGood('merge_tcp')).toBe(false);
      bench.control.turnOn('merge_tcp');
    }
    turn();
    expect(bench.control.offForGood('merge_tcp')).toBe(true);
  });
});

describe('a merged write that the kernel refuses for want of memory', () => {
  it.each([
    ['ENOMEM', ENOMEM],
    ['ENOBUFS', ENOBUFS],
  ])('%s: is written again singly, and merging stays on', (_, errno) => {
    let refusals = 0;
    const bench = refusingMerges(errno, () => ++refusals === 1);
    const packets = [...segments(3, 1), ...segments(3, 2)];
    receive(
      packets.map((packet) => datagram(packet)),
      bench,
    );
    expect(delivered(bench)).toEqual(packets.map(forwarded));
    expect(bench.control.turnedOff('merge_tcp')).toBe(0);
    expect(bench.counted('rx')).toMatchObject({ replayed_packets: 3, merged_packets: 3 });
  });
});

describe('a write that fails', () => {
  it('with EIO, the device is down: all of its packets are dropped as such, and merging stays on', () => {
    const bench = workbench();
    bench.kernel.onWrite = () => EIO;
    const packets = [...segments(5), inboundUdp()];
    receive(
      packets.map((packet) => datagram(packet)),
      bench,
    );
    expect(bench.kernel.writes).toHaveLength(2);
    expect(bench.dropped('rx')).toEqual({ tun_down: 6 });
    expect(bench.control.turnedOff('merge_tcp')).toBe(0);
  });

  it('with EIO goes on when the device is up again', () => {
    const bench = workbench();
    bench.kernel.onWrite = (_, index) => (index === 0 ? EIO : 0);
    receive([datagram(inboundUdp({ sourcePort: 1 })), datagram(inboundUdp({ sourcePort: 2 }))], bench);
    expect(bench.kernel.written).toHaveLength(1);
    expect(bench.dropped('rx')).toEqual({ tun_down: 1 });
  });

  it('singly with EINVAL: the packet is dropped, and merging stays on', () => {
    const bench = workbench();
    bench.kernel.onWrite = (_, index) => (index === 0 ? EINVAL : 0);
    receive([datagram(inboundUdp({ sourcePort: 1 })), datagram(inboundUdp({ sourcePort: 2 }))], bench);
    expect(bench.dropped('rx')).toEqual({ tun_write_error: 1 });
    expect(bench.control.turnedOff('merge_udp')).toBe(0);
    expect(bench.kernel.written).toHaveLength(1);
  });

  it('with EBADFD, the device is gone: the forwarder ends, and every packet it held is counted', () => {
    const bench = workbench();
    bench.kernel.onWrite = () => EBADFD;
    const packets = [...segments(3), inboundUdp({ sourcePort: 1 }), inboundUdp({ sourcePort: 2 })];
    bench.kernel.arrivals.push(...packets.map((packet) => datagram(packet)));
    expect(bench.rx().turn()).toBe(EBADFD);
    expect(bench.kernel.writes).toHaveLength(1);
    expect(bench.dropped('rx')).toEqual({ tun_write_error: 5 });
  });

  it('with EBADFD in a replay ends the forwarder too', () => {
    const bench = workbench();
    bench.kernel.onWrite = ({ vnet }) => (vnet.type === 0 ? EBADFD : EINVAL);
    bench.kernel.arrivals.push(...segments(3).map((packet) => datagram(packet)));
    expect(bench.rx().turn()).toBe(EBADFD);
    expect(bench.dropped('rx')).toEqual({ tun_write_error: 3 });
  });
});

describe('a single packet', () => {
  it('has a virtio-net header of zeros, also when its item held a merged one before', () => {
    const bench = workbench();
    const forwarder = bench.rx();
    for (const packets of [segments(5), [inboundUdp({ payload: payload(9) })]]) {
      bench.kernel.arrivals.push(...packets.map((packet) => datagram(packet)));
      forwarder.turn();
    }
    expect(bench.kernel.written.map(({ vnet }) => vnet.type)).toEqual([1, 0]);
    expect(bench.kernel.written[1]!.vnet).toEqual(NO_OFFLOAD);
  });
});
