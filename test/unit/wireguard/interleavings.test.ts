/** Handshakes of both ends at once, messages that overtake each other, a control thread that comes late: nothing is lost. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { REKEY_AFTER_TIME } from '../../../src/wireguard/constants.js';
import { TRANSPORT } from '../../../src/wireguard/messages.js';
import { type Host, innerPacket, numberOf } from '../../support/wireguard/host.js';
import { Network, pair } from '../../support/wireguard/network.js';

/** So long after a handshake message packets come thick and fast, in milliseconds. */
const BUSY = 500;

const course = fc.record({
  seed: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
  delay: fc.integer({ min: 1, max: 60 }),
  jitter: fc.integer({ min: 0, max: 200 }),
  lag: fc.integer({ min: 0, max: 80 }),
  /** Of the second host's first packet, and of the greetings. */
  apart: fc.integer({ min: 0, max: 120 }),
  greets: fc.tuple(fc.boolean(), fc.boolean()),
  sends: fc.constantFrom<readonly [boolean, boolean]>([true, true], [true, false]),
});

function travel({
  seed,
  delay,
  jitter,
  lag,
  apart,
  greets,
  sends,
}: typeof course extends fc.Arbitrary<infer T> ? T : never) {
  const network = new Network(seed);
  const { a, b, ab, ba } = pair(network);
  network.link = { delay, jitter, loss: 0, repeat: 0 };
  network.lag = lag;
  let busyUntil = BUSY;
  network.filter = (datagram) => {
    if (datagram[0] !== TRANSPORT) busyUntil = network.time + BUSY;
    return true;
  };
  if (greets[0]) a.device.connect(ab, network.now);
  if (greets[1]) b.device.connect(ba, network.now);
  const counts = [0, 0];
  const send = (host: Host, peer: number, which: 0 | 1) => {
    host.transmit(peer, innerPacket(counts[which]++));
  };
  while (network.time < 2.3 * REKEY_AFTER_TIME) {
    if (sends[0]) send(a, ab, 0);
    if (sends[1] && network.time >= apart) send(b, ba, 1);
    network.run(network.time < busyUntil ? 4 : 1_997);
  }
  network.run(2_000);
  return { a, b, counts };
}

describe('on a link that loses nothing', () => {
  it('no packet is lost, whatever overtakes what', { timeout: 120_000 }, () => {
    fc.assert(
      fc.property(course, (settings) => {
        const { a, b, counts } = travel(settings);
        for (const [to, from, count] of [
          [b, a, counts[0]],
          [a, b, counts[1]],
        ] as const) {
          const { unknown_session, not_authentic, replayed } = to.drops();
          expect({ unknown_session, not_authentic, replayed }).toEqual({});
          // what too many waited for a session was never sent
          expect(new Set(to.received.map(({ packet }) => numberOf(packet))).size).toBe(count - from.staged.dropped);
        }
      }),
      { numRuns: 60 },
    );
  });
});
