import { describe, expect, it } from 'vitest';
import { MOST_REFUSALS } from '../../../src/encap/datapath/refusals.js';
import {
  EAGAIN,
  ECONNREFUSED,
  EHOSTUNREACH,
  EINTR,
  EINVAL,
  EIO,
  EMSGSIZE,
  ENETDOWN,
  ENETUNREACH,
  ENOBUFS,
  ENOMEM,
  EPERM,
} from '../../../src/linux/constants.js';
import { batchBench, PEER_2, PEER_3 } from './support/sending.js';
import { host } from './support/workbench.js';

/** The errno for the first `times` attempts. */
const first = (times: number, errno: number) => (_: unknown, attempt: number) => (attempt < times ? errno : 0);
/** The errno for every segmented send. */
const segmented =
  (errno: number) =>
  ({ segmentSize }: { readonly segmentSize: number }) =>
    segmentSize > 0 ? errno : 0;

function run(bench: ReturnType<typeof batchBench>, count: number, length = 100, peer = PEER_2): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => bench.add(length, peer, i));
}

describe('a segmented send that is refused with EIO', () => {
  it('is replayed datagram by datagram, in order, without a duplicate, and never tried again', () => {
    const bench = batchBench();
    const { kernel, batch, control, counted, dropped } = bench;
    kernel.onSend = segmented(EIO);
    const sent = [...run(bench, 5), bench.add(60)];
    batch.flush();
    expect(kernel.datagrams).toEqual(sent);
    expect(control.turnedOff('udp_gso')).toBe(EIO);
    expect(counted('tx')).toEqual({ packets: 6, bytes: 560, sends: 6, replayed_packets: 6 });
    kernel.sends.length = 0;
    const more = run(bench, 3);
    batch.flush();
    expect(kernel.sends.map(({ datagrams, segmentSize }) => [datagrams.length, segmentSize])).toEqual(
      Array(3).fill([1, 0]),
    );
    expect(kernel.datagrams).toEqual(more);
    expect(dropped('tx')).toEqual({});
  });

  it('is replayed in the middle of a super-packet: what went before it is not sent again', () => {
    const bench = batchBench(4);
    let sends = 0;
    bench.kernel.onSend = ({ segmentSize }) => (segmentSize > 0 && ++sends > 1 ? EIO : 0);
    const sent = Array.from({ length: 10 }, (_, i) => bench.addSegment(40, 1000, PEER_2, i));
    bench.batch.flush();
    expect(bench.kernel.datagrams).toEqual(sent);
    expect(bench.lengths().map(({ length }) => length)).toEqual([4, 1, 1, 1, 1, 1, 1]);
  });

  it('does not turn anything off when a single datagram is refused', () => {
    const { kernel, batch, add, control, dropped } = batchBench();
    kernel.onSend = () => EIO;
    add(100);
    batch.flush();
    expect(control.turnedOff('udp_gso')).toBe(0);
    expect(dropped('tx')).toEqual({ send_error: 1 });
  });
});

describe('a segmented send that is refused with EINVAL', () => {
  it('makes the runs shorter when the kernel takes fewer segments than a newer one', () => {
    const bench = batchBench();
    const { kernel, batch, control } = bench;
    kernel.onSend = ({ datagrams }) => (datagrams.length > 64 ? EINVAL : 0);
    const sent = run(bench, 300, 50);
    batch.flush();
    expect(kernel.datagrams).toEqual(sent);
    expect(control.turnedOff('udp_gso')).toBe(0);
    expect(Math.max(...kernel.sent.map(({ datagrams }) => datagrams.length))).toBe(63);
  });

  it.each([
    [63, EINVAL],
    [64, 0],
  ])('%i datagrams long: turns segmenting off only where any kernel takes as many', (length, expected) => {
    const bench = batchBench();
    bench.kernel.onSend = first(1, EINVAL);
    run(bench, length, 50);
    bench.batch.flush();
    expect(bench.control.turnedOff('udp_gso')).toBe(expected);
  });

  it('turns segmenting off when a short run is refused too', () => {
    const bench = batchBench();
    bench.kernel.onSend = segmented(EINVAL);
    const sent = [...run(bench, 130, 50), ...run(bench, 3)];
    bench.batch.flush();
    expect(bench.kernel.datagrams).toEqual(sent);
    expect(bench.control.turnedOff('udp_gso')).toBe(EINVAL);
  });

  it('turns nothing off when single datagrams are refused as well: it is not the segmenting then', () => {
    const bench = batchBench();
    bench.kernel.onSend = () => EINVAL; // older kernels say so while the underlay's address is gone
    run(bench, 70, 50);
    bench.batch.flush();
    expect(bench.control.turnedOff('udp_gso')).toBe(0);
    expect(bench.dropped('tx')).toEqual({ send_error: 70 });
    bench.kernel.onSend = () => 0;
    const sent = run(bench, 70, 50);
    bench.batch.flush();
    expect(bench.kernel.sent.map(({ datagrams }) => datagrams)).toEqual([sent]);
  });

  it('counts as "too long for the path" where the path is too small, as kernels before 6.14 say it', () => {
    const bench = batchBench(128, (peer) => (peer === PEER_2 ? 1400 : 1500));
    bench.kernel.onSend = ({ segmentSize }) => (segmentSize > 1372 ? EINVAL : 0);
    const sent = run(bench, 3, 1400);
    bench.batch.flush();
    expect(bench.kernel.datagrams).toEqual(sent);
    expect(bench.control.turnedOff('udp_gso')).toBe(0);
    expect(bench.reports).toEqual([{ room: 1372, bytes: sent[0] }]);
    expect(bench.fragments).toEqual([true, false]);
    const shorter = run(bench, 3, 1372);
    bench.batch.flush();
    expect(bench.kernel.sent.at(-1)!.datagrams).toEqual(shorter);
  });
});

describe('segmenting that was turned off', () => {
  /** A run of three that is refused whole, and each of its datagrams taken. */
  function refusedRun(bench: ReturnType<typeof batchBench>): void {
    bench.kernel.onSend = segmented(EINVAL);
    run(bench, 3);
    bench.batch.flush();
  }

  it('stays off until it is turned on again, and is used from the next turn on', () => {
    const bench = batchBench();
    refusedRun(bench);
    bench.kernel.onSend = () => 0;
    const lengthsOfNext = () => {
      bench.kernel.sends.length = 0;
      run(bench, 3);
      bench.batch.flush();
      return bench.lengths().map(({ length }) => length);
    };
    bench.batch.begin();
    expect(lengthsOfNext()).toEqual([1, 1, 1]);
    bench.control.turnOn('udp_gso');
    bench.batch.begin();
    expect(lengthsOfNext()).toEqual([3]);
    expect(bench.control.turnedOff('udp_gso')).toBe(0);
  });

  it('is given up for good only when it is refused time after time', () => {
    const bench = batchBench();
    for (let refusals = 1; refusals < MOST_REFUSALS; refusals++) {
      refusedRun(bench);
      expect([bench.control.turnedOff('udp_gso'), bench.control.offForGood('udp_gso')]).toEqual([EINVAL, false]);
      bench.control.turnOn('udp_gso');
      bench.batch.begin();
    }
    refusedRun(bench);
    expect(bench.control.offForGood('udp_gso')).toBe(true);
  });

  it('is not given up when it works in between', () => {
    const bench = batchBench();
    for (let refusals = 0; refusals < 3 * MOST_REFUSALS; refusals++) {
      refusedRun(bench);
      expect(bench.control.offForGood('udp_gso')).toBe(false);
      bench.control.turnOn('udp_gso');
      bench.batch.begin();
      bench.kernel.onSend = () => 0;
      run(bench, 3);
      bench.batch.flush();
    }
  });

  it('is not blamed for EINVAL when the kernel does not tell how long a datagram may be', () => {
    const bench = batchBench(128, () => 0);
    refusedRun(bench);
    expect(bench.kernel.datagrams).toHaveLength(3);
    expect(bench.control.turnedOff('udp_gso')).toBe(0);
  });

  it('is not blamed when one of the datagrams turns out to be too long for its path', () => {
    const bench = batchBench();
    bench.kernel.onSend = ({ segmentSize }) => {
      if (segmentSize > 0) return EINVAL;
      return bench.fragments.at(-1) === true ? 0 : EMSGSIZE;
    };
    run(bench, 3);
    bench.batch.flush();
    expect(bench.kernel.datagrams).toHaveLength(3);
    expect(bench.control.turnedOff('udp_gso')).toBe(0);
  });
});

describe('a send that is refused with EMSGSIZE', () => {
  /** A path that carries datagrams of 1372 bytes: longer ones only in fragments, and never in a segmented send. */
  function smallPath(bench: ReturnType<typeof batchBench>): void {
    bench.kernel.onSend = ({ datagrams, segmentSize }) =>
      datagrams[0]!.length > 1372 && (segmentSize > 0 || bench.fragments.at(-1) !== true) ? EMSGSIZE : 0;
  }

  it('is repeated singly in fragments, reported once, and leaves segmenting on and DF set', () => {
    const bench = batchBench();
    smallPath(bench);
    const sent = run(bench, 4, 1400, PEER_3);
    bench.batch.flush();
    expect(bench.kernel.datagrams).toEqual(sent);
    expect(bench.kernel.sends).toHaveLength(5);
    expect(bench.reports).toEqual([{ room: 1472, bytes: sent[0] }]);
    expect(bench.fragments).toEqual([true, false]);
    expect(bench.control.turnedOff('udp_gso')).toBe(0);
    run(bench, 4, 1372, PEER_3);
    bench.batch.flush();
    expect(bench.lengths().at(-1)).toEqual([1372, 1372, 1372, 1372]);
  });

  it('is reported with the headers only where the payload lies apart', () => {
    const bench = batchBench();
    smallPath(bench);
    const [one] = [bench.addSegment(52, 1400), bench.addSegment(52, 1400)];
    bench.batch.flush();
    expect(bench.reports).toEqual([{ room: 1472, bytes: one!.slice(0, 52) }]);
  });

  it('goes out in fragments and is reported when it is a single datagram', () => {
    const bench = batchBench();
    smallPath(bench);
    const one = bench.add(1400);
    bench.batch.flush();
    expect(bench.kernel.datagrams).toEqual([one]);
    expect(bench.reports).toEqual([{ room: 1472, bytes: one }]);
    expect(bench.fragments).toEqual([true, false]);
    expect(bench.counted('tx')).toEqual({ packets: 1, bytes: 1400, sends: 1, replayed_packets: 1 });
    expect(bench.dropped('tx')).toEqual({});
  });

  it('is dropped, and DF set again, when not even fragments get through', () => {
    const bench = batchBench();
    bench.kernel.onSend = () => EMSGSIZE;
    bench.add(9000);
    bench.batch.flush();
    expect(bench.kernel.sends).toHaveLength(2);
    expect(bench.fragments).toEqual([true, false]);
    expect(bench.dropped('tx')).toEqual({ message_too_long: 1 });
  });

  it('is dropped under the reason that stopped its fragments', () => {
    const bench = batchBench();
    bench.kernel.onSend = () => (bench.fragments.at(-1) ? ENETUNREACH : EMSGSIZE);
    bench.add(1400);
    bench.batch.flush();
    expect(bench.dropped('tx')).toEqual({ underlay_unreachable: 1 });
  });

  it('sets DF again even if the queue fills up among the fragments', () => {
    const bench = batchBench();
    bench.kernel.onSend = (_, attempt) => (attempt === 0 ? EMSGSIZE : attempt === 1 ? 0 : EAGAIN);
    run(bench, 4, 1400);
    bench.batch.flush();
    expect(bench.fragments).toEqual([true, false]);
    expect(bench.dropped('tx')).toEqual({ send_buffer_full: 3 });
  });
});

describe('a full queue', () => {
  it.each([
    ['ENOBUFS', ENOBUFS],
    ['ENOMEM', ENOMEM],
  ])('%s: the datagram is tried again, after a moment, and gets through', (_, errno) => {
    const { kernel, batch, add, counted, dropped } = batchBench();
    kernel.onSend = first(2, errno);
    const one = add(100);
    batch.flush();
    expect(kernel.datagrams).toEqual([one]);
    expect(kernel.polls).toEqual([
      { watched: {}, timeout: 1 },
      { watched: {}, timeout: 1 },
    ]);
    expect(counted('tx')).toEqual({ packets: 1, bytes: 100, sends: 1, send_retries: 2 });
    expect(dropped('tx')).toEqual({});
  });

  it('ENOBUFS for ever: after three more tries the datagram is dropped', () => {
    const { kernel, batch, add, counted, dropped } = batchBench();
    kernel.onSend = () => ENOBUFS;
    add(100);
    batch.flush();
    expect(kernel.sends).toHaveLength(4);
    expect(counted('tx')).toEqual({ send_retries: 3 });
    expect(dropped('tx')).toEqual({ send_buffer_full: 1 });
  });

  it('ENOBUFS for some of a run: those are dropped, the others delivered in order', () => {
    const bench = batchBench();
    const sent = run(bench, 4);
    bench.kernel.onSend = ({ datagrams }) =>
      datagrams.some((bytes) => Buffer.compare(bytes, sent[1]!) === 0) ? ENOBUFS : 0;
    bench.batch.flush();
    expect(bench.kernel.datagrams).toEqual([sent[0], sent[2], sent[3]]);
    expect(bench.dropped('tx')).toEqual({ send_buffer_full: 1 });
  });

  it.each([
    ['ENOBUFS', ENOBUFS],
    ['ENOMEM', ENOMEM],
  ])(
    '%s for ever: a run sleeps three milliseconds in all, whatever its length, and its rest is dropped',
    (_, errno) => {
      const bench = batchBench();
      bench.kernel.onSend = () => errno;
      run(bench, 100);
      bench.batch.flush();
      expect(bench.kernel.polls).toEqual(Array(3).fill({ watched: {}, timeout: 1 }));
      expect(bench.kernel.sends.length).toBeLessThan(10);
      expect(bench.dropped('tx')).toEqual({ send_buffer_full: 100 });
      expect(bench.control.turnedOff('udp_gso')).toBe(0);
      // the next run may sleep again
      bench.kernel.onSend = first(bench.kernel.sends.length + 2, errno);
      const sent = run(bench, 2);
      bench.batch.flush();
      expect(bench.kernel.datagrams).toEqual(sent);
    },
  );

  it('EAGAIN: the send waits for room, and the whole run leaves as it is', () => {
    const bench = batchBench();
    bench.kernel.onSend = first(1, EAGAIN);
    const sent = run(bench, 5);
    bench.batch.flush();
    expect(bench.rooms).toEqual([1]);
    expect(bench.kernel.sent).toMatchObject([{ datagrams: sent }]);
    expect(bench.dropped('tx')).toEqual({});
  });

  it('EAGAIN: a send that has waited for its time is given up, the rest of its run with it', () => {
    const bench = batchBench();
    bench.kernel.onSend = () => EAGAIN;
    run(bench, 5);
    bench.batch.flush();
    expect(bench.rooms).toEqual([1]);
    expect(bench.kernel.sends).toHaveLength(2);
    expect(bench.dropped('tx')).toEqual({ send_buffer_full: 5 });
    expect(bench.batch.empty).toBe(true);
  });

  it('EAGAIN in a replay: the rest of the run is given up too, as each would wait as long', () => {
    const bench = batchBench();
    bench.kernel.onSend = (_, attempt) => (attempt === 0 ? EIO : attempt < 3 ? 0 : EAGAIN);
    const sent = run(bench, 6);
    bench.batch.flush();
    expect(bench.kernel.datagrams).toEqual(sent.slice(0, 2));
    expect(bench.rooms).toEqual([4]);
    expect(bench.kernel.sends).toHaveLength(5);
    expect(bench.dropped('tx')).toEqual({ send_buffer_full: 4 });
  });
});

describe('a passing error', () => {
  it.each([
    ['EINTR', EINTR],
    ['ECONNREFUSED', ECONNREFUSED],
  ])('%s: a single datagram is sent again at once', (_, errno) => {
    const { kernel, batch, add, dropped } = batchBench();
    kernel.onSend = first(1, errno);
    const one = add(100);
    batch.flush();
    expect(kernel.datagrams).toEqual([one]);
    expect(kernel.polls).toEqual([]);
    expect(dropped('tx')).toEqual({});
  });

  it.each([
    ['EINTR', EINTR],
    ['ECONNREFUSED', ECONNREFUSED],
    ['ENOBUFS', ENOBUFS],
  ])('%s: no datagram of a run is lost or doubled, and segmenting stays on', (_, errno) => {
    const bench = batchBench();
    bench.kernel.onSend = first(1, errno);
    const sent = run(bench, 5);
    bench.batch.flush();
    expect(bench.kernel.datagrams).toEqual(sent);
    expect(bench.control.turnedOff('udp_gso')).toBe(0);
    run(bench, 5);
    bench.batch.flush();
    expect(bench.lengths().at(-1)).toEqual(Array(5).fill(100));
  });

  it('that does not pass is dropped after three more tries', () => {
    const { kernel, batch, add, dropped } = batchBench();
    kernel.onSend = () => EINTR;
    add(100);
    batch.flush();
    expect(kernel.sends).toHaveLength(4);
    expect(dropped('tx')).toEqual({ send_error: 1 });
  });
});

describe('a lasting error', () => {
  it.each([
    ['ENETUNREACH', ENETUNREACH, 'underlay_unreachable'],
    ['EHOSTUNREACH', EHOSTUNREACH, 'underlay_unreachable'],
    ['ENETDOWN', ENETDOWN, 'underlay_unreachable'],
    ['EPERM, a firewall', EPERM, 'send_refused'],
    ['something unheard of', 9999, 'send_error'],
  ])('%s: all of the run is dropped under its reason, and the next run is sent', (_, errno, reason) => {
    const bench = batchBench();
    bench.kernel.onSend = () => errno;
    run(bench, 5);
    bench.batch.flush();
    expect(bench.dropped('tx')).toEqual({ [reason]: 5 });
    expect(bench.counted('tx')).toEqual({ replayed_packets: 5 });
    expect(bench.control.turnedOff('udp_gso')).toBe(0);
    bench.kernel.onSend = () => 0;
    run(bench, 2);
    bench.batch.flush();
    expect(bench.lengths()).toEqual([[100, 100]]);
  });

  it('of one datagram does not keep the others of its run from being delivered', () => {
    const bench = batchBench();
    const sent = run(bench, 4);
    bench.kernel.onSend = ({ datagrams }) =>
      datagrams.some((bytes) => Buffer.compare(bytes, sent[2]!) === 0) ? EPERM : 0;
    bench.batch.flush();
    expect(bench.kernel.datagrams).toEqual([sent[0], sent[1], sent[3]]);
    expect(bench.dropped('tx')).toEqual({ send_refused: 1 });
  });

  it('for one peer does not touch another', () => {
    const bench = batchBench();
    bench.kernel.onSend = ({ address }) => (address === host(2) ? ENETUNREACH : 0);
    run(bench, 2, 100, PEER_2);
    const sent = run(bench, 2, 100, PEER_3);
    bench.batch.flush();
    expect(bench.kernel.datagrams).toEqual(sent);
    expect(bench.dropped('tx')).toEqual({ underlay_unreachable: 2 });
  });
});
