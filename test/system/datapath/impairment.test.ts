/** Datagrams are lost, repeated, delayed and corrupted on the way: what arrives is what was sent, or does not arrive. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AUTO, OFF, type Offloads } from './support/host.js';
import { type Counts, ImpairmentHop, PERFECT, type Rates } from './support/impairment.js';
import { connect } from './support/namespace.js';
import { describeSetting, halfOfSettings } from './support/settings.js';
import { Host, overheadOf, reportOn, setSegmentation, startAll } from './support/site.js';
import { closeSockets } from './support/sockets.js';
import { file, NumberedStream, ping, sendFile } from './support/transfer.js';
import { until } from './support/until.js';

const MTU = 1500;
const JUMBO = 9000;
const MIB = 1 << 20;
const PERCENT = 0.01;
const FULL = MTU - 28 - 28;

let hop: ImpairmentHop;
let hosts: readonly [Host, Host];

beforeAll(async () => {
  hop = new ImpairmentHop();
  hosts = [new Host(1, '192.168.77'), new Host(2, '192.168.77')];
  for (const [host, port] of [
    [hosts[0], 'left'],
    [hosts[1], 'right'],
  ] as const) {
    await connect(hop.namespace, port, host.namespace, 'eth0', MTU);
    await host.build(MTU);
    await setSegmentation(host.namespace, 'eth0', false);
  }
  await hop.start();
});

afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') process.stderr.write(`${await reportOn(hosts)}\n`);
  closeSockets();
  await Promise.all(hosts.map((host) => host.process.stop()));
});

afterAll(async () => {
  await Promise.all([hop?.close(), ...(hosts ?? []).map((host) => host.close())]);
});

const rough: Rates = { ...PERFECT, lost: PERCENT, repeated: PERCENT, delayed: PERCENT };
const corrupting: Rates = { ...PERFECT, corruptedPayload: 2 * PERCENT, corruptedHeader: PERCENT };

/** Sends datagrams of all kinds, and waits until all have arrived but those that must not. */
async function sendMany(stream: NumberedStream, missing: (met: Counts) => number, rounds = 40): Promise<Counts> {
  for (let round = 0; round < rounds; round++) {
    stream.send(200, 20);
    stream.send(FULL, 20);
    stream.sendSegmented(900, 40, 333);
    await until('the others arrive', async () => {
      const { udp: met } = await hop.counts();
      return seen(met) === stream.sent && stream.arrived === stream.sent - missing(met);
    });
  }
  return (await hop.counts()).udp;
}

function seen(met: Counts): number {
  return Object.values(met).reduce((sum, count) => sum + count, 0);
}

/** Packets that the containers' kernels refused for their checksum. */
function refused(): number {
  return hosts
    .flatMap(({ container }) => ['Tcp', 'Udp'].map((protocol) => container.counter(protocol, 'InCsumErrors')))
    .reduce((sum, count) => sum + count, 0);
}

/** What both hosts refused for something wrong in the inner header. */
async function wrongHeaders(): Promise<number> {
  let sum = 0;
  for (const { process } of hosts) {
    const { drops } = await process.status();
    for (const reason of ['bad_header_checksum', 'bad_header', 'bad_length', 'bad_version'])
      sum += drops[`rx_${reason}`]!;
  }
  return sum;
}

async function setMtu(mtu: number, sealed = false): Promise<void> {
  await hop.namespace.ip(`link set left mtu ${mtu}`, `link set right mtu ${mtu}`);
  for (const host of hosts) {
    await host.namespace.ip(`link set eth0 mtu ${mtu}`);
    await host.setContainerMtu(mtu - overheadOf({ sealed }));
  }
}

describe.each([
  [MTU, 'even'],
  [JUMBO, 'odd'],
] as const)('lost, repeated and delayed, MTU %i', (mtu, parity) => {
  beforeAll(() => setMtu(mtu));
  afterAll(() => setMtu(MTU));

  it.each(halfOfSettings(parity).map((setting) => [describeSetting(setting), setting] as const))(
    '%s',
    async (_name, offloads) => {
      const [one, two] = hosts;
      await hop.set(PERFECT);
      await startAll(hosts, mtu, { offloads });
      await ping(one.container, two.containerIp, 10);
      await hop.set(rough);
      await Promise.all([sendFile(one.end, two.end, file(2 * MIB, 1)), sendFile(two.end, one.end, file(MIB, 2))]);
      const stream = new NumberedStream(one.end, two.end);
      const met = await sendMany(stream, ({ lost }) => lost, 8);
      expect(seen((await hop.counts()).tcp)).toBeGreaterThan(200);
      expect(met.lost + met.repeated + met.delayed).toBeGreaterThan(0);
      expect(stream.duplicates).toBe(met.repeated);
    },
  );
});

describe.each([
  ['all on', AUTO, 'off'],
  ['all off', OFF, 'off'],
  ['kernel path by route', AUTO, 'route'],
  ['kernel path to the container', AUTO, 'direct'],
] as const)('%s', (_name, offloads, kernelPath) => {
  beforeEach(async () => {
    await hop.set(PERFECT);
    await startAll(hosts, MTU, { offloads, kernelPath });
    await ping(hosts[0].container, hosts[1].containerIp, 10); // neighbours are known from here on
  });

  it('lost, repeated and delayed: files arrive whole', async () => {
    const [one, two] = hosts;
    await hop.set(rough);
    await Promise.all([sendFile(one.end, two.end, file(6 * MIB, 1)), sendFile(two.end, one.end, file(2 * MIB, 2))]);
    const { lost, repeated, delayed } = (await hop.counts()).tcp;
    expect(Math.min(lost, repeated, delayed)).toBeGreaterThan(10);
  });

  it('lost, repeated and delayed: exactly the lost datagrams are missing, and the repeated ones come twice', async () => {
    const [one, two] = hosts;
    await hop.set(rough);
    const stream = new NumberedStream(one.end, two.end);
    const met = await sendMany(stream, ({ lost }) => lost);
    expect(Math.min(met.lost, met.repeated, met.delayed)).toBeGreaterThan(10);
    expect(stream.duplicates).toBe(met.repeated);
  });

  it('corrupted: files arrive whole, and every wrong segment is refused by tweed or by the container', async () => {
    const [one, two] = hosts;
    const before = refused();
    await hop.set(corrupting);
    await sendFile(one.end, two.end, file(6 * MIB, 3));
    const met = await until('the last ones are accounted for', async () => {
      const { tcp } = await hop.counts();
      return refused() - before === tcp.corruptedPayload && (await wrongHeaders()) === tcp.corruptedHeader && tcp;
    });
    expect(Math.min(met.corruptedPayload, met.corruptedHeader)).toBeGreaterThan(10);
    const { totals } = await two.process.status();
    if (offloads === AUTO && kernelPath === 'off') expect(totals.rx_bad_inner_checksum).toBeGreaterThan(0);
  });

  it('corrupted: exactly the wrong datagrams are missing', async () => {
    const [one, two] = hosts;
    const before = refused();
    await hop.set(corrupting);
    const stream = new NumberedStream(one.end, two.end);
    const met = await sendMany(stream, ({ corruptedPayload, corruptedHeader }) => corruptedPayload + corruptedHeader);
    expect(Math.min(met.corruptedPayload, met.corruptedHeader)).toBeGreaterThan(10);
    expect(refused() - before).toBe(met.corruptedPayload);
    expect(await wrongHeaders()).toBe(met.corruptedHeader);
    expect(stream.duplicates).toBe(0);
  });

  it('marked: each mark of congestion reaches the receiver, and each answer to it the sender', async () => {
    const [one, two] = hosts;
    for (const { container } of hosts) container.sysctl('ipv4/tcp_ecn', 1);
    const count = () => ({
      marks: two.container.counter('IpExt', 'InCEPkts'),
      reductions: one.container.counter('TcpExt', 'TCPDeliveredCE'),
    });
    const before = count();
    await hop.set({ ...PERFECT, marked: PERCENT });
    await sendFile(one.end, two.end, file(6 * MIB, 4));
    await until('all marks are counted', async () => {
      const { marked } = (await hop.counts()).tcp;
      return marked > 10 && count().marks - before.marks === marked;
    });
    expect(count().reductions).toBeGreaterThan(before.reductions);
    for (const { container } of hosts) container.sysctl('ipv4/tcp_ecn', 2);
  });
});

describe.each([MTU, JUMBO])('sealed, MTU %i', (mtu) => {
  beforeAll(() => setMtu(mtu, true));
  afterAll(() => setMtu(MTU));

  /** Files in both directions at once and datagrams of all kinds; all arrive, and once, but what was kept from it. */
  async function sendAll(kept: (met: Counts) => number): Promise<Counts> {
    const [one, two] = hosts;
    await Promise.all([sendFile(one.end, two.end, file(2 * MIB, 1)), sendFile(two.end, one.end, file(MIB, 2))]);
    const stream = new NumberedStream(one.end, two.end);
    const before = kept((await hop.counts()).sealed);
    for (let round = 0; round < 8; round++) {
      stream.send(200, 20);
      stream.send(mtu - overheadOf({ sealed: true }) - 28, 20);
      stream.sendSegmented(900, 40, 333);
      const arrived = async () => stream.sent - stream.arrived <= kept((await hop.counts()).sealed) - before;
      await until('the others arrive', arrived);
    }
    expect(stream.duplicates).toBe(0);
    return (await hop.counts()).sealed;
  }

  /** Sum of both hosts' drops for these reasons. */
  async function dropped(...reasons: string[]): Promise<number> {
    const drops = await Promise.all(hosts.map(async ({ process }) => (await process.status()).drops));
    return drops.flatMap((one) => reasons.map((reason) => one[reason]!)).reduce((sum, count) => sum + count, 0);
  }

  async function start(offloads: Offloads): Promise<void> {
    const [one, two] = hosts;
    await hop.set(PERFECT);
    await startAll(hosts, mtu, { offloads, sealed: true });
    await ping(one.container, two.containerIp, 10);
  }

  it.each(halfOfSettings(mtu === MTU ? 'odd' : 'even').map((setting) => [describeSetting(setting), setting] as const))(
    'lost, repeated and delayed, %s',
    async (_name, offloads) => {
      await start(offloads);
      await hop.set(rough);
      const met = await sendAll(({ lost }) => lost);
      expect(Math.min(met.lost, met.repeated, met.delayed)).toBeGreaterThan(0);
      await until('every repeated message is refused', async () => {
        return (await dropped('rx_replayed')) === (await hop.counts()).sealed.repeated;
      });
      expect(await dropped('rx_not_authentic', 'rx_unknown_session', 'rx_not_wireguard')).toBe(0);
    },
  );

  it.each([
    ['all on', AUTO],
    ['all off', OFF],
  ] as const)('corrupted, %s: every wrong message is refused, and no container sees it', async (_name, offloads) => {
    await start(offloads);
    const before = refused();
    await hop.set(corrupting);
    const met = await sendAll(({ corruptedPayload, corruptedHeader }) => corruptedPayload + corruptedHeader);
    expect(Math.min(met.corruptedPayload, met.corruptedHeader)).toBeGreaterThan(0);
    await until('every wrong one is refused', async () => {
      const { corruptedPayload, corruptedHeader } = (await hop.counts()).sealed;
      const reasons = ['not_authentic', 'unknown_session', 'not_wireguard', 'counter_exhausted'].map(
        (one) => `rx_${one}`,
      );
      return (await dropped(...reasons)) === corruptedPayload + corruptedHeader;
    });
    expect(refused()).toBe(before);
  });
});
