import { describe, expect, it } from 'vitest';
import {
  EAGAIN,
  EBADF,
  EBADFD,
  EINTR,
  EINVAL,
  ENOMEM,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLNVAL,
} from '../../../src/linux/constants.js';
import type { FakeKernel } from './support/fake-kernel.js';
import { payload, udp } from './support/packets.js';
import { datagram, inboundUdp } from './support/receiving.js';
import { type Workbench, workbench } from './support/workbench.js';

interface Way {
  readonly direction: 'tx' | 'rx';
  readonly start: (bench: Workbench) => { run(): void };
  readonly feed: (kernel: FakeKernel) => void;
  readonly fail: (kernel: FakeKernel, errno: number) => void;
  readonly count: (kernel: FakeKernel) => number;
}

const WAYS: readonly Way[] = [
  {
    direction: 'tx',
    start: (bench) => bench.tx(),
    feed: (kernel) => kernel.tunReads.push({ packet: udp({ payload: payload(9) }) }),
    fail: (kernel, errno) => kernel.tunReads.push({ errno }),
    count: (kernel) => kernel.datagrams.length,
  },
  {
    direction: 'rx',
    start: (bench) => bench.rx(),
    feed: (kernel) => kernel.arrivals.push(datagram(inboundUdp())),
    fail: (kernel, errno) => kernel.arrivals.push({ errno }),
    count: (kernel) => kernel.written.length,
  },
];

describe.each(WAYS)('the $direction forwarder', ({ direction, start, feed, fail, count }) => {
  /** What poll answers when the stop request's eventfd wakes it. */
  const stop = (bench: Workbench) => {
    bench.control.requestStop();
    return { wake: POLLIN };
  };
  /** A bench whose polls are answered by the functions, one after the other. */
  function scripted(...answers: ((bench: Workbench) => object)[]): Workbench {
    const bench = workbench();
    bench.kernel.pollAnswers.shift = () => answers.shift()?.(bench);
    return bench;
  }

  it('sleeps until there is something, forwards it, sleeps again, and ends when it is asked to', () => {
    const arrive = ({ kernel }: Workbench) => {
      feed(kernel);
      return { events: POLLIN };
    };
    const bench = scripted(arrive, arrive, stop);
    start(bench).run();
    expect(count(bench.kernel)).toBe(2);
    expect(bench.kernel.polls).toEqual(Array(3).fill({ count: 2, timeout: -1 }));
    expect(bench.kernel.wakeReads).toBe(1);
    expect(bench.counted(direction)).toMatchObject({ wakeups: 2 });
    expect(bench.control.failed(direction)).toBe(0);
  });

  it('does not sleep at all when it was asked to stop before', () => {
    const bench = workbench();
    bench.control.requestStop();
    start(bench).run();
    expect(bench.kernel.polls).toEqual([]);
    expect(bench.control.failed(direction)).toBe(0);
  });

  it('goes back to sleep when it was woken for nothing', () => {
    const bench = scripted(
      () => ({ wake: POLLIN }),
      () => ({}),
      stop,
    );
    start(bench).run();
    expect(bench.kernel.polls).toHaveLength(3);
    expect(bench.kernel.wakeReads).toBe(2);
    expect(bench.counted(direction)).toEqual({});
  });

  it('sees a stop that comes together with a packet, and forwards nothing more', () => {
    const bench = scripted((b) => {
      feed(b.kernel);
      return { ...stop(b), events: POLLIN };
    });
    start(bench).run();
    expect(count(bench.kernel)).toBe(0);
  });

  it('sleeps on after a signal', () => {
    const bench = scripted(() => ({ errno: EINTR }), stop);
    start(bench).run();
    expect(bench.kernel.polls).toHaveLength(2);
    expect(bench.control.failed(direction)).toBe(0);
  });

  it.each([
    ['EINVAL', EINVAL],
    ['ENOMEM', ENOMEM],
  ])('ends with %s of poll and says so', (_, errno) => {
    const bench = scripted(() => ({ errno }));
    start(bench).run();
    expect(bench.control.failed(direction)).toBe(errno);
  });

  it.each([
    ['POLLERR', POLLERR],
    ['POLLHUP', POLLHUP],
    ['POLLNVAL', POLLNVAL],
  ])('looks why at %s, and ends with the reason that the call gives', (_, events) => {
    const bench = scripted((b) => {
      fail(b.kernel, EBADFD);
      return { events };
    });
    start(bench).run();
    expect(bench.control.failed(direction)).toBe(EBADFD);
  });

  it('ends when its descriptor is none any more, instead of spinning', () => {
    const bench = scripted((b) => {
      fail(b.kernel, EBADF);
      return { events: POLLNVAL };
    });
    start(bench).run();
    expect(bench.control.failed(direction)).toBe(EBADF);
  });

  it('goes on when there was nothing to read after all', () => {
    const bench = scripted(() => ({ events: POLLIN }), stop);
    start(bench).run();
    expect(bench.control.failed(direction)).toBe(0);
    expect(bench.counted(direction)).toEqual({ wakeups: 1 });
    expect(bench.kernel.errno()).toBe(EAGAIN);
  });
});

describe('the rx forwarder', () => {
  it('ends when the TUN is gone under a write', () => {
    const bench = workbench();
    bench.kernel.pollAnswers.push({ events: POLLIN });
    bench.kernel.arrivals.push(datagram(inboundUdp()));
    bench.kernel.onWrite = () => EBADFD;
    bench.rx().run();
    expect(bench.control.failed('rx')).toBe(EBADFD);
    expect(bench.control.failed('tx')).toBe(0);
  });
});
