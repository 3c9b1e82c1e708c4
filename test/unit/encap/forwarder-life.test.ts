import { describe, expect, it } from 'vitest';
import type { Forwarder } from '../../../src/encap/datapath/loop.js';
import { MAX_RECEIVE_SLOTS } from '../../../src/encap/datapath/receive-slots.js';
import { TURN_READS } from '../../../src/encap/datapath/tx.js';
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
  POLLOUT,
} from '../../../src/linux/constants.js';
import { type PollAnswer, SOCKET, TUN, WAKE } from './support/fake-kernel.js';
import { payload, udp } from './support/packets.js';
import { datagram, inboundUdp } from './support/receiving.js';
import { type Workbench, workbench } from './support/workbench.js';

type Answer = (bench: Workbench) => PollAnswer;

/** A bench whose polls are answered by the functions, one after the other. */
function scripted(...answers: Answer[]): Workbench {
  const bench = workbench();
  bench.kernel.pollAnswers.shift = () => answers.shift()?.(bench);
  return bench;
}

/** What poll answers when the stop request's eventfd wakes it. */
const stop: Answer = ({ control }) => {
  control.requestStop();
  return { wake: POLLIN };
};

const WAYS = [
  {
    direction: 'tx',
    descriptor: TUN,
    ready: (events = POLLIN): PollAnswer => ({ tun: events }),
    forwarder: (bench: Workbench): Forwarder => bench.tx(),
    feed: ({ kernel }: Workbench) => kernel.tunReads.push({ packet: udp({ payload: payload(9) }) }),
    fail: ({ kernel }: Workbench, errno: number) => kernel.tunReads.push({ errno }),
    count: ({ kernel }: Workbench) => kernel.datagrams.length,
  },
  {
    direction: 'rx',
    descriptor: SOCKET,
    ready: (events = POLLIN): PollAnswer => ({ socket: events }),
    forwarder: (bench: Workbench): Forwarder => bench.rx(),
    feed: ({ kernel }: Workbench) => kernel.arrivals.push(datagram(inboundUdp())),
    fail: ({ kernel }: Workbench, errno: number) => kernel.arrivals.push({ errno }),
    count: ({ kernel }: Workbench) => kernel.written.length,
  },
] as const;

describe.each(WAYS)(
  'a loop that serves $direction',
  ({ direction, descriptor, ready, forwarder, feed, fail, count }) => {
    const serve = (bench: Workbench) => bench.loop.serve([forwarder(bench)]);

    it('sleeps until there is something, forwards it, sleeps again, and ends when it is asked to', () => {
      const arrive: Answer = (bench) => {
        feed(bench);
        return ready();
      };
      const bench = scripted(arrive, arrive, stop);
      serve(bench);
      expect(count(bench)).toBe(2);
      const watched = { [descriptor]: POLLIN, [WAKE]: POLLIN };
      expect(bench.kernel.polls).toEqual(Array(3).fill({ watched, timeout: -1 }));
      expect(bench.kernel.wakeReads).toBe(1);
      expect(bench.counted(direction)).toMatchObject({ turns: 2 });
      expect(bench.control.failed(direction)).toBe(0);
    });

    it('does not sleep at all when it was asked to stop before', () => {
      const bench = workbench();
      bench.control.requestStop();
      serve(bench);
      expect(bench.kernel.polls).toEqual([]);
      expect(bench.control.failed(direction)).toBe(0);
    });

    it('goes back to sleep when it was woken for nothing', () => {
      const bench = scripted(
        () => ({ wake: POLLIN }),
        () => ({}),
        stop,
      );
      serve(bench);
      expect(bench.kernel.polls).toHaveLength(3);
      expect(bench.kernel.wakeReads).toBe(2);
      expect(bench.counted(direction)).toEqual({});
    });

    it('sees a stop that comes together with a packet, and forwards nothing more', () => {
      const bench = scripted((b) => {
        feed(b);
        return { ...stop(b), ...ready() };
      });
      serve(bench);
      expect(count(bench)).toBe(0);
    });

    it('sleeps on after a signal', () => {
      const bench = scripted(() => ({ errno: EINTR }), stop);
      serve(bench);
      expect(bench.kernel.polls).toHaveLength(2);
      expect(bench.control.failed(direction)).toBe(0);
    });

    it.each([
      ['EINVAL', EINVAL],
      ['ENOMEM', ENOMEM],
    ])('ends with %s of poll and says so', (_, errno) => {
      const bench = scripted(() => ({ errno }));
      serve(bench);
      expect(bench.control.failed(direction)).toBe(errno);
    });

    it.each([
      ['POLLERR', POLLERR],
      ['POLLHUP', POLLHUP],
      ['POLLNVAL', POLLNVAL],
    ])('looks why at %s, and ends with the reason that the call gives', (_, events) => {
      const bench = scripted((b) => {
        fail(b, EBADFD);
        return ready(events);
      });
      serve(bench);
      expect(bench.control.failed(direction)).toBe(EBADFD);
    });

    it('ends when its descriptor is none any more, instead of spinning', () => {
      const bench = scripted((b) => {
        fail(b, EBADF);
        return ready(POLLNVAL);
      });
      serve(bench);
      expect(bench.control.failed(direction)).toBe(EBADF);
    });

    it('goes on when a signal came instead of a packet', () => {
      const bench = scripted(
        (b) => {
          fail(b, EINTR);
          return ready();
        },
        (b) => {
          feed(b);
          return ready();
        },
        stop,
      );
      serve(bench);
      expect(count(bench)).toBe(1);
      expect(bench.control.failed(direction)).toBe(0);
    });

    it('goes on when there was nothing to read after all', () => {
      const bench = scripted(() => ready(), stop);
      serve(bench);
      expect(bench.control.failed(direction)).toBe(0);
      expect(bench.counted(direction)).toEqual({ turns: 1 });
      expect(bench.kernel.errno()).toBe(EAGAIN);
    });

    it('forwards everything before it looks at the reason why the descriptor refused in the middle', () => {
      const again: Answer = (b) => {
        fail(b, EBADFD);
        return ready();
      };
      const bench = scripted((b) => {
        feed(b);
        return again(b);
      }, again);
      serve(bench);
      expect(count(bench)).toBe(1);
      expect(bench.control.failed(direction)).toBe(EBADFD);
    });
  },
);

describe('a loop that serves both directions', () => {
  const [tx, rx] = WAYS;
  const serve = (bench: Workbench) => bench.loop.serve([bench.tx(), bench.rx()]);
  const both = { tun: POLLIN, socket: POLLIN };

  it('sleeps on both descriptors, and serves those that are ready', () => {
    const feeding =
      (...ways: (typeof WAYS)[number][]): Answer =>
      (bench) => {
        for (const way of ways) way.feed(bench);
        return Object.assign({}, ...ways.map((way) => way.ready())) as PollAnswer;
      };
    const bench = scripted(feeding(tx), feeding(rx), feeding(tx, rx), stop);
    serve(bench);
    expect([tx.count(bench), rx.count(bench)]).toEqual([2, 2]);
    expect(bench.counted('tx')).toMatchObject({ turns: 2 });
    expect(bench.counted('rx')).toMatchObject({ turns: 2 });
    const watched = { [TUN]: POLLIN, [SOCKET]: POLLIN, [WAKE]: POLLIN };
    expect(bench.kernel.polls[0]).toEqual({ watched, timeout: -1 });
  });

  it('gives each its turn though neither queue ever runs dry', () => {
    const turns: string[] = [];
    const bench = scripted(
      () => both,
      () => both,
      stop,
    );
    bench.kernel.tunReads.push(
      ...Array.from({ length: 3 * TURN_READS }, () => ({ packet: udp({ payload: payload(9) }) })),
    );
    bench.kernel.arrivals.push(...Array.from({ length: 3 * MAX_RECEIVE_SLOTS }, () => datagram(inboundUdp())));
    bench.kernel.onRead = () => turns.push(`${bench.kernel.tunReads.length}/${bench.kernel.arrivals.length}`);
    serve(bench);
    const reads = (left: number, arrivals: number) =>
      Array.from({ length: TURN_READS }, (_, i) => `${left - i}/${arrivals}`);
    expect(turns).toEqual([...reads(192, 192), '128/192', ...reads(128, 128), '64/128']);
  });

  it('ends as a whole when one of them cannot go on, and says which', () => {
    const bench = scripted((b) => {
      rx.fail(b, EBADF);
      return both;
    });
    serve(bench);
    expect([bench.control.failed('tx'), bench.control.failed('rx')]).toEqual([0, EBADF]);
  });

  it('ends with the reason of a poll that fails, for both', () => {
    const bench = scripted(() => ({ errno: ENOMEM }));
    serve(bench);
    expect([bench.control.failed('tx'), bench.control.failed('rx')]).toEqual([ENOMEM, ENOMEM]);
  });
});

describe('waiting for room in the socket', () => {
  const [tx, rx] = WAYS;
  /** A packet is read, and its first `refusals` sends find the socket full. */
  function full(refusals: number, forwarders: (bench: Workbench) => Forwarder[], ...answers: Answer[]): Workbench {
    const bench = scripted(
      (b) => {
        tx.feed(b);
        return tx.ready();
      },
      ...answers,
      stop,
    );
    bench.kernel.onSend = (_, i) => (i < refusals ? EAGAIN : 0);
    bench.loop.serve(forwarders(bench));
    return bench;
  }

  /** A bench with a packet that finds no room at all. @param answer to the polls after the first, which are counted from 1 */
  function neverRoom(answer: (bench: Workbench, poll: number) => PollAnswer): Workbench {
    const bench = scripted((b) => {
      tx.feed(b);
      return tx.ready();
    });
    const answers = bench.kernel.pollAnswers;
    const first = answers.shift.bind(answers);
    let polls = 0;
    answers.shift = () => (polls++ === 0 ? first() : answer(bench, polls - 1));
    bench.kernel.onSend = () => EAGAIN;
    return bench;
  }
  const alone = (bench: Workbench) => [bench.tx()];
  const together = (bench: Workbench) => [bench.tx(), bench.rx()];

  it('sleeps for half a second at most, and sends when there is room', () => {
    const bench = full(1, alone, () => ({ socket: POLLOUT }));
    expect(tx.count(bench)).toBe(1);
    const [, room] = bench.kernel.polls;
    expect(room?.watched).toEqual({ [SOCKET]: POLLOUT, [WAKE]: POLLIN });
    expect(room?.timeout).toBeGreaterThan(400);
    expect(room?.timeout).toBeLessThanOrEqual(500);
    expect(bench.dropped('tx')).toEqual({});
  });

  it('waits on after a signal', () => {
    const bench = full(
      1,
      alone,
      () => ({ errno: EINTR }),
      () => ({ socket: POLLOUT }),
    );
    expect(bench.kernel.polls).toHaveLength(4);
    expect(tx.count(bench)).toBe(1);
  });

  it('drops and counts what finds none', () => {
    const bench = full(2, alone, () => ({ errno: EINVAL }));
    expect(bench.dropped('tx')).toEqual({ send_buffer_full: 1 });
    expect(bench.control.failed('tx')).toBe(0);
  });

  it('gives up after half a second, however often it is woken for nothing', () => {
    const bench = neverRoom((b) => (b.kernel.polls.at(-1)?.timeout === -1 ? stop(b) : {}));
    bench.loop.serve(alone(bench));
    expect(bench.dropped('tx')).toEqual({ send_buffer_full: 1 });
  });

  it('lets the send say what a socket’s error is about', () => {
    const bench = full(1, alone, () => ({ socket: POLLERR }));
    expect(tx.count(bench)).toBe(1);
  });

  it('receives meanwhile where that is the same thread’s work', () => {
    const arrive: Answer = (b) => {
      rx.feed(b);
      return rx.ready();
    };
    const bench = full(1, together, arrive, arrive, () => ({ socket: POLLOUT | POLLIN }));
    expect([tx.count(bench), rx.count(bench)]).toEqual([1, 2]);
    expect(bench.kernel.polls[1]?.watched).toEqual({ [SOCKET]: POLLOUT | POLLIN, [WAKE]: POLLIN });
    expect(bench.dropped('tx')).toEqual({});
  });

  it('still sends what it has read when it is asked to stop, and receives nothing more', () => {
    const bench = full(1, together, stop, () => ({ socket: POLLOUT | POLLIN }));
    expect(tx.count(bench)).toBe(1);
    expect(bench.kernel.polls.at(-1)?.watched).toEqual({ [SOCKET]: POLLOUT, [WAKE]: POLLIN });
    expect(bench.dropped('tx')).toEqual({});
  });

  it('does not wait for long when it is asked to stop', () => {
    const bench = neverRoom((b, poll) => (poll === 1 ? stop(b) : {}));
    bench.loop.serve(together(bench));
    expect(bench.dropped('tx')).toEqual({ send_buffer_full: 1 });
    expect(bench.kernel.polls.slice(2).every(({ timeout }) => timeout <= 100)).toBe(true);
  });
});

describe('the rx forwarder', () => {
  it('ends when the TUN is gone under a write', () => {
    const bench = workbench();
    bench.kernel.pollAnswers.push({ socket: POLLIN });
    bench.kernel.arrivals.push(datagram(inboundUdp()));
    bench.kernel.onWrite = () => EBADFD;
    bench.loop.serve([bench.rx()]);
    expect(bench.control.failed('rx')).toBe(EBADFD);
    expect(bench.control.failed('tx')).toBe(0);
  });
});
