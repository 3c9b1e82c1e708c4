/** ICMP errors reach whoever sent the packet, whatever the host's reverse-path filter; not too many, and not for everything. */
import { describe, expect, it } from 'vitest';
import { icmp, payload } from '../../unit/encap/support/packets.js';
import { parse, sameBytes } from '../../unit/encap/support/reference.js';
import { address, leaseOf } from './support/host.js';
import { probeKernel } from './support/kernel.js';
import { type Host, useSite } from './support/site.js';
import { RawIp, RefusedError, Sniffer, Udp } from './support/sockets.js';
import { ping } from './support/transfer.js';
import { until } from './support/until.js';

const NOBODY = address('10.5.99.9');
const PORT = 9;
const ICMP = 1;
/** raw(7): the caller writes the IP header. */
const IPPROTO_RAW = 255;
const UNREACHABLE = 3;
const ENETUNREACH = 101;
const EHOSTUNREACH = 113;
/** What the data path allows: so many at once, so many a second. */
const BURST = 50;
const PER_SECOND = 100;

const kernel = await probeKernel();
const site = useSite();

/** The ICMP errors among what was seen, each with the packet that it quotes. */
function errors(seen: readonly Buffer[]): { readonly type: number; readonly code: number; readonly quoted: Buffer }[] {
  return seen
    .filter((packet) => packet[0] === 0x45 && packet[9] === ICMP)
    .map((packet) => ({ type: packet[20]!, code: packet[21]!, quoted: packet.subarray(28) }));
}

async function total(host: Host, name: string): Promise<number> {
  const { totals, drops } = await host.process.status();
  const count = totals[name] ?? drops[name];
  if (count === undefined) throw new Error(`the status has no ${name}`);
  return count;
}

describe.each(
  [0, 1, 2].flatMap((filter) => (['off', 'route', 'direct'] as const).map((kernelPath) => ({ filter, kernelPath }))),
)('with rp_filter $filter, kernel path $kernelPath', ({ filter, kernelPath }) => {
  it('ping says that the network is unreachable, and which hop ended its TTL', async () => {
    const there = site();
    const [one, two] = [there.host(1), there.host(2)];
    for (const { namespace } of there.hosts) {
      namespace.sysctl('ipv4/conf/all/rp_filter', filter);
      namespace.sysctl('ipv4/conf/default/rp_filter', filter);
    }
    await there.start({ kernelPath });
    for (const { namespace } of there.hosts) namespace.sysctl('ipv4/conf/flannel0/rp_filter', filter);

    const pingOnce = async (...args: string[]) => {
      // it ends with status 1 when there was no answer, and prints the errors all the same
      const argv = ['ping', '-n', '-c', '1', '-W', '5', ...args];
      return (await one.container.run('sh', '-c', `${argv.join(' ')} || true`)).stdout;
    };
    expect(await pingOnce('10.5.99.9')).toContain('From 10.5.0.0 icmp_seq=1 Destination Net Unreachable');
    const hops = ['10.5.1.1', '10.5.0.0', '10.5.2.0', '10.5.2.0'];
    for (const [i, hop] of hops.entries()) {
      expect(await pingOnce('-t', String(i + 1), '10.5.2.2')).toContain(`From ${hop} icmp_seq=1 Time to live exceeded`);
    }
    expect(await pingOnce('-t', String(hops.length + 1), '10.5.2.2')).toContain('1 received');
    // the hosts themselves are senders and receivers too
    await ping(one.namespace, two.containerIp, 56);
    await ping(one.namespace, address('10.5.2.0'), 56);
  });
});

it('a UDP socket is told', async () => {
  const there = site();
  await there.start();
  const socket = new Udp(there.host(1).container, { reportErrors: true });
  socket.connect(NOBODY, PORT);
  socket.write(payload(100));
  const errno = await until('an error of the socket', () => {
    try {
      socket.receive();
      return null;
    } catch (error) {
      return error instanceof RefusedError ? error.errno : null;
    }
  });
  expect([ENETUNREACH, EHOSTUNREACH]).toContain(errno);
});

it('there is one error for a super-packet, and it quotes the head of it', async () => {
  const there = site();
  await there.start();
  const { container } = there.host(1);
  const sniffer = new Sniffer(container, 'eth0', 'in');
  const socket = new Udp(container);
  socket.sendSegmented(payload(40_000), 1000, NOBODY, PORT);
  // where a TUN has no UDP super-packets, the kernel cuts this one before
  const packets = kernel.uso ? 1 : 40;
  await until('it is counted', async () => (await total(there.host(1), 'tx_no_route')) >= packets);
  await ping(container, address('10.5.1.1'), 10); // answered by the host, after the error
  const seen = errors(sniffer.drain()).filter(({ type }) => type === UNREACHABLE);
  expect(seen.length).toBe(packets);
  expect(seen[0]).toMatchObject({ type: UNREACHABLE, code: 0 });
  expect(seen[0]!.quoted.length).toBeLessThanOrEqual(548);
  expect(sameBytes(seen[0]!.quoted.subarray(28, 500), payload(40_000).slice(0, 472))).toBe(true);
});

it('there is none about the tails of fragments, nor about ICMP errors', async () => {
  const there = site();
  await there.start();
  const { container, process } = there.host(1);
  const sniffer = new Sniffer(container, 'eth0', 'in');
  const socket = new Udp(container);
  socket.send(payload(5000), NOBODY, PORT);
  await until('all fragments are counted', async () => (await process.status()).drops.tx_no_route === 4);
  await ping(container, address('10.5.1.1'), 10);
  const [error, ...more] = errors(sniffer.drain()).filter(({ type }) => type === UNREACHABLE);
  expect(more).toEqual([]);
  expect(parse(error!.quoted).fragment & 0x1fff).toBe(0);

  // an ICMP error about something that we never sent is not answered with another
  const { namespace } = there.host(1);
  const device = new Sniffer(namespace, 'flannel0', 'in');
  const raw = icmp(UNREACHABLE, { source: [1, 2], destination: [99, 9] });
  new RawIp(container, IPPROTO_RAW).send(raw, NOBODY);
  await until('it is counted', async () => (await process.status()).drops.tx_no_route === 5);
  await ping(container, there.host(2).containerIp, 10);
  expect(errors(device.drain()).filter(({ type }) => type === UNREACHABLE)).toEqual([]);
});

it('there is none while there may be hosts that nobody has told us of: the sender tries again, and gets through', async () => {
  const there = site();
  const [one, two] = [there.host(1), there.host(2)];
  await there.start();
  await one.process.setPeers([], false);
  const sniffer = new Sniffer(one.container, 'eth0', 'in');
  new Udp(one.container).send(payload(10), two.containerIp, PORT);
  await until('it is counted', async () => (await one.process.status()).drops.tx_no_route_yet === 1);
  await ping(one.container, address('10.5.1.1'), 10);
  expect(errors(sniffer.drain()).filter(({ type }) => type === UNREACHABLE)).toEqual([]);
  await one.process.setPeers([leaseOf(2, two.publicIp)]);
  await ping(one.container, two.containerIp, 10);
  expect((await one.process.status()).drops.tx_no_route).toBe(0);
});

it('a flood to an unleased subnet is answered at a limited rate', async () => {
  const there = site();
  await there.start();
  const { container, process } = there.host(1);
  const sniffer = new Sniffer(container, 'eth0', 'in');
  const socket = new Udp(container);
  const started = Date.now();
  const count = 2000;
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < count / 4; i++) socket.send(payload(10), NOBODY, PORT);
    await until(
      'they are counted',
      async () => (await process.status()).drops.tx_no_route! >= (round + 1) * (count / 4),
    );
  }
  const { totals, drops } = await process.status();
  const seconds = (Date.now() - started) / 1000;
  expect(drops.tx_no_route).toBe(count);
  expect(totals.tx_icmp_sent! + totals.tx_icmp_suppressed!).toBe(count);
  expect(totals.tx_icmp_sent).toBeGreaterThanOrEqual(BURST);
  expect(totals.tx_icmp_sent).toBeLessThanOrEqual(BURST + 1 + PER_SECOND * seconds);
  const sent = totals.tx_icmp_sent!;
  await sniffer.collect('the errors', sent, (packet) => errors([packet]).some(({ type }) => type === UNREACHABLE));
});

// the last one: it changes what else is true of host 1
it('a host with the first subnet of all sends them from the last address', async () => {
  const there = site();
  const { namespace, container, process, publicIp } = there.host(1);
  await namespace.ip('address add 10.5.0.1/24 dev br0');
  await container.ip('address add 10.5.0.2/24 dev eth0');
  for (const name of ['all', 'default']) namespace.sysctl(`ipv4/conf/${name}/rp_filter`, 1);
  await process.start(publicIp, there.mtu, [], {}, 0);
  const { stdout } = await container.run('sh', '-c', 'ping -n -c 1 -W 5 -I 10.5.0.2 10.5.99.9 || true');
  expect(stdout).toContain('From 10.5.255.255 icmp_seq=1 Destination Net Unreachable');
});
