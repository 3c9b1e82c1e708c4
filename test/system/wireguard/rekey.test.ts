/** Two data paths under traffic while their sessions, which live for minutes, end and others take their place. */
import { describe, expect, it } from 'vitest';
import { useSite } from '../datapath/support/site.js';
import { NumberedStream } from '../datapath/support/transfer.js';
import { until } from '../datapath/support/until.js';

/** A session is renewed after two minutes, of which each takes six seconds; the former one is good for another. */
const CLOCK_SPEED = 10;
const REKEYS = 2;
const BURST = 20;
const FULL = 1380;
/**
 * Two handshakes that cross, or one that was repeated since the other end was slow to answer, cost no packet; nor is it one of ours
 * that the kernel sends by IPv6 of its own accord.
 */
const HARMLESS = /^(handshake_|tx_bad_version$|tx_multicast_or_link_local$)/;

const site = useSite();

describe('two hosts, one with a forwarder thread for each direction', () => {
  it('lose and double no packet when keys are replaced', async () => {
    const there = site();
    const options = { sealed: true, clockSpeed: CLOCK_SPEED } as const;
    await there.start({ ...options, forwarderThreads: 1 }, { ...options, forwarderThreads: 2 });
    const [one, two] = [there.host(1), there.host(2)];
    const streams = [new NumberedStream(one.end, two.end), new NumberedStream(two.end, one.end)];
    const rekeys = async () => {
      const statuses = await Promise.all(there.hosts.map(({ process }) => process.status()));
      return Math.min(...statuses.map(({ totals }) => totals.rekeys ?? 0));
    };
    await until(
      'the keys to be replaced',
      async () => {
        for (const stream of streams) {
          stream.send(200, BURST);
          stream.sendSegmented(FULL, BURST, 77);
        }
        for (const stream of streams) await stream.complete();
        return (await rekeys()) >= REKEYS;
      },
      120_000,
    );
    for (const stream of streams) expect(stream.duplicates).toBe(0);
    for (const { process } of there.hosts) {
      const { drops, totals } = await process.status();
      expect(Object.entries(drops).filter(([name, count]) => count > 0 && !HARMLESS.test(name))).toEqual([]);
      expect(totals.handshakes).toBeGreaterThan(REKEYS);
    }
  }, 200_000);
});
