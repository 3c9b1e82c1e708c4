/** A kernel path under a service manager that keeps descriptors: packets go on while no daemon runs, and the next one takes over. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Bpf } from '../../../src/kernel-path/bpf.js';
import { OBJECT_PREFIX } from '../../../src/kernel-path/maps.js';
import { eventually, type TestHost, TestNetwork } from '../daemon/hosts.js';
import { Service } from '../daemon/service.js';
import { Traffic } from '../daemon/traffic.js';
import { expectNoLeftovers } from './support/leftovers.js';
import { WITHOUT_TCX } from './support/refuse-bpf.js';

let network: TestNetwork;
let traffic: Traffic | null;
let service: Service | null;
const bpf = new Bpf();

beforeEach(async () => {
  network = await TestNetwork.create();
  traffic = null;
  service = null;
});
afterEach(async () => {
  await traffic?.end();
  await service?.end();
  await network.remove();
  await expectNoLeftovers();
});

/** A service on the first host, a daemon on the second, containers that talk; every packet by the kernel. */
async function begin(mode: string, node: readonly string[] = []): Promise<{ service: Service; traffic: Traffic }> {
  const [first, second] = network.hosts;
  const args = [network.endpoint, `-kernel-path=${mode}`, '-drop-privileges=false'];
  const own = ['-iptables-resync=1', '-tun-tso=auto', '-release-on-exit=false', '-txqueuelen=30000'];
  // room for as many packets as come while a slow machine starts Node, where user space has to carry them
  service = new Service(first, { node }, ...args, ...own);
  second.start(args);
  await Promise.all(network.hosts.map((host) => host.ready(1)));
  traffic = await Traffic.ofContainers(first, second);
  await byKernel(first, mode);
  return { service, traffic };
}

/** The kernel path is there, and has found the container. */
const byKernel = (host: TestHost, mode: string) =>
  eventually(async () => {
    const { features = [], totals = {} } = (await host.status()).backend ?? {};
    expect(features.find(({ name }) => name === 'kernel_path')).toMatchObject({ inForce: mode, reason: '' });
    expect(features.find(({ name }) => name === 'kernel_path_bridges')).toMatchObject({ inForce: 'bridge0' });
    expect(totals.kernel_rx_packets).toBeGreaterThan(500);
  });

/** How many packets come to the end where fewest do. */
async function flow(milliseconds: number): Promise<number> {
  const before = traffic?.received ?? [];
  await sleep(milliseconds);
  return Math.min(...(traffic?.received ?? []).map((count, i) => count - (before[i] ?? 0)));
}

/** How many packets have left by a host's bridge to its container. */
async function byBridge(host: TestHost): Promise<number> {
  return Number((await host.run('cat', '/sys/class/net/bridge0/statistics/tx_packets')).stdout);
}

/** Each of so many daemons has its programs once, and they hang once. Those on bridges come and go with the containers. */
const expectSets = (count: number, links = count) =>
  eventually(() => {
    const namesOf = (objects: readonly { readonly name: string }[]) =>
      objects.map(({ name }) => name.replace(OBJECT_PREFIX, '')).sort();
    const ours = ({ name }: { readonly name: string }) => name.startsWith(OBJECT_PREFIX);
    const each = (...names: string[]) => names.flatMap((name) => new Array<string>(count).fill(name));
    expect(namesOf(bpf.programs().filter(ours))).toEqual(each('decap', 'deliver', 'encap', 'merged'));
    expect(bpf.maps().filter(ours)).toHaveLength(7 * count);
    const hanging = namesOf(bpf.links().filter(ours)).filter((name) => name !== 'deliver');
    expect(hanging).toEqual(['decap', 'encap', 'merged'].flatMap((name) => new Array<string>(links).fill(name)));
  });

describe.each(['route', 'direct'] as const)('kernel path %s', (mode) => {
  it.each(['SIGTERM', 'SIGKILL'])(
    'carries on while no daemon runs after %s, and not one packet is missing',
    async (signal) => {
      const [first] = network.hosts;
      const running = await begin(mode);
      for (let round = 0; round < 3; round++) {
        await running.service.pause(signal);
        expect(await flow(2500)).toBeGreaterThan(1250);
        await running.service.resume();
        await byKernel(first, mode);
        await expectSets(2);
      }
      expect(await running.traffic.result()).toEqual({ lost: 0, streams: 'whole' });
      expect((await first.status()).repairs).toBe(0);
      expect(running.service.output).not.toContain('does not fit');
      await running.service.stop();
      await expectSets(1);
    },
  );
});

describe('straight to containers', () => {
  const byRoute = async () => {
    const [first] = network.hosts;
    const before = await byBridge(first);
    const came = await flow(1000);
    expect(came).toBeGreaterThan(500);
    return (await byBridge(first)) - before > came / 2;
  };

  it('goes nothing from the moment at which the daemon leaves', async () => {
    const running = await begin('direct');
    await eventually(async () => expect(await byRoute()).toBe(false));
    await running.service.pause('SIGTERM');
    expect(await byRoute()).toBe(true);
    await running.service.resume();
    await eventually(async () => expect(await byRoute()).toBe(false));
    expect(await running.traffic.result()).toEqual({ lost: 0, streams: 'whole' });
  });

  it('goes nothing seconds after it was killed', async () => {
    const running = await begin('direct');
    await eventually(async () => expect(await byRoute()).toBe(false));
    await running.service.pause('SIGKILL');
    await sleep(5000);
    expect(await byRoute()).toBe(true);
    await running.service.resume();
    await eventually(async () => expect(await byRoute()).toBe(false));
    expect(await running.traffic.result()).toEqual({ lost: 0, streams: 'whole' });
  });
});

describe('what was kept', () => {
  it('goes at once where there is to be no kernel path any more, and user space has all', async () => {
    const [first] = network.hosts;
    const running = await begin('route');
    await running.service.pause('SIGKILL');
    await running.service.resume('-kernel-path=off');
    expect(running.service.output).toContain('the kernel path that was left does not fit, and is taken off');
    await expectSets(1);
    expect(await flow(1000)).toBeGreaterThan(500);
    expect((await first.status()).backend?.totals.kernel_rx_packets).toBe(0);
    expect(await running.traffic.result()).toEqual({ lost: 0, streams: 'whole' });
  });

  it('goes at once where the device is another one', async () => {
    const [first, second] = network.hosts;
    const running = await begin('route');
    await running.service.pause('SIGTERM');
    await running.service.resume('-tun-tso=off');
    expect(running.service.output).toContain('the kernel path that was left does not fit, and is taken off');
    await expectSets(2);
    await first.reaches((await second.status()).lease?.subnet?.replace(/\/\d+$/, '') ?? '');
  });

  it('ends with a daemon that gives its lease back', async () => {
    const running = await begin('route');
    await running.service.pause('SIGTERM');
    await running.service.resume('-release-on-exit=true');
    await expectSets(2);
    await running.service.pause('SIGTERM');
    await expectSets(1);
  });
});

describe('by filters, as before Linux 6.6', () => {
  /** A device is without a queue for the moment in which the kernel adds or removes a qdisc for filters. */
  const expectFewLost = async (of: Traffic) => {
    const { lost, streams } = await of.result();
    expect(streams).toBe('whole');
    expect(lost).toBeLessThan(500);
  };
  const qdiscs = async (host: TestHost) => (await host.run('tc', 'qdisc', 'show')).stdout;

  it('ends with a daemon that is told to end, whose queues keep the packets', async () => {
    const [first] = network.hosts;
    const running = await begin('route', WITHOUT_TCX);
    await running.service.pause('SIGTERM');
    // on a machine on which each program takes long there may be no time for all of them
    if (!running.service.output.includes('was cut short')) expect(await qdiscs(first)).not.toContain('clsact');
    await running.service.resume();
    await byKernel(first, 'route');
    await expectFewLost(running.traffic);
  });

  it('carries on after one that is killed, until the next one', async () => {
    const [first] = network.hosts;
    const running = await begin('route', WITHOUT_TCX);
    for (let round = 0; round < 2; round++) {
      await running.service.pause('SIGKILL');
      expect(await flow(2500)).toBeGreaterThan(1250);
      await running.service.resume();
      await byKernel(first, 'route');
      await expectSets(2, 1);
    }
    await expectFewLost(running.traffic);
    await running.service.pause('SIGKILL');
    await running.service.resume('-kernel-path=off');
    await eventually(async () => expect(await qdiscs(first)).not.toContain('clsact'));
    await expectSets(1);
  });
});
