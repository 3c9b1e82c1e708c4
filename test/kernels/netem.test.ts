/** The kernel's own impairments on the underlay: what arrives is what was sent. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Site, useSite } from '../system/datapath/support/site.js';
import { file, NumberedStream, ping, sendFile } from '../system/datapath/support/transfer.js';
import { testedKernel } from './kernel.js';

const { expected } = testedKernel();
const site = useSite();
const KIB = 1 << 10;

async function filesBothWays(there: Site): Promise<void> {
  const [one, two] = [there.host(1), there.host(2)];
  await Promise.all([sendFile(one.end, two.end, file(1024 * KIB, 1)), sendFile(two.end, one.end, file(512 * KIB, 2))]);
}

beforeEach(async () => {
  await site().start();
});

it('clean: nothing is lost, and datagrams arrive coalesced where this kernel brings them so', async () => {
  const [one, two] = [site().host(1), site().host(2)];
  await filesBothWays(site());
  const stream = new NumberedStream(one.end, two.end);
  stream.send(1000, 20);
  stream.sendSegmented(1200, 40, 333);
  await stream.complete();
  expect(stream.duplicates).toBe(0);
  const { totals } = await two.process.status();
  expect(totals.rx_coalesced_datagrams! > 0 ? 'on' : 'off').toBe(expected.coalescing);
  expect(totals.rx_bad_inner_checksum).toBe(0);
});

describe('netem', () => {
  const set = (words: string) =>
    Promise.all(
      site().hosts.map(({ namespace }) =>
        namespace.run('tc', 'qdisc', 'replace', 'dev', 'eth0', 'root', 'netem', 'limit', '20000', ...words.split(' ')),
      ),
    );
  /** What netem says it has done; without it a test would pass on a clean underlay. */
  const packets = async (): Promise<number> => {
    const { stdout } = await site().host(1).namespace.run('tc', '-json', '-s', 'qdisc', 'show', 'dev', 'eth0', 'root');
    const [qdisc] = JSON.parse(stdout);
    expect(qdisc.kind).toBe('netem');
    return qdisc.packets;
  };

  afterEach(async () => {
    await Promise.all(site().hosts.map(({ namespace }) => namespace.run('tc', 'qdisc', 'del', 'dev', 'eth0', 'root')));
  });

  it.each([
    'loss 1%',
    'delay 5ms',
    'delay 5ms reorder 5% 50%',
    'duplicate 1%',
    'corrupt 0.5%',
    'delay 5ms 2ms loss 1% reorder 5% duplicate 1% corrupt 0.5%',
  ])('%s: files arrive whole, both ways at once', async (words) => {
    await ping(site().host(1).container, site().host(2).containerIp, 10, 1); // neighbours are known from here on
    await set(words);
    await filesBothWays(site());
    expect(await packets()).toBeGreaterThan(20);
  });
});
