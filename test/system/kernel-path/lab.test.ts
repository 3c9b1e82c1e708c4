/** Whole labs with a kernel path: real daemons and leases, masquerading, every kind of traffic, and who has carried it. */
import { afterAll, describe, expect, it } from 'vitest';
import { daemonStatus } from '../../../src/lab/daemon.js';
import type { Lab } from '../../../src/lab/lab.js';
import { formatMatrix } from '../../../src/lab/matrix.js';
import { parsePublication } from '../../../src/lab/names.js';
import { useLab } from '../support/lab.js';
import { expectPublishes, expectReachesInternet } from '../support/lab-checks.js';
import { expectNoLeftovers } from './support/leftovers.js';

const withPath = (mode: string) => ({ daemonArgs: [`--kernel-path=${mode}`] });

/** How many of a host's packets have gone which way, by the kernel path and in all. */
async function counted(lab: Lab, host: string) {
  const status = await daemonStatus(lab.files, host);
  const { totals = {}, features = [] } = status?.backend ?? {};
  const total = (name: string) => totals[name] ?? 0;
  return {
    inForce: features.find(({ name }) => name === 'kernel_path')?.inForce,
    all: total('tx_packets') + total('rx_packets'),
    byKernel: total('kernel_tx_packets') + total('kernel_rx_packets'),
  };
}

async function expectGreen(lab: Lab, pairs: number): Promise<void> {
  const result = await lab.test();
  expect(result.ok, formatMatrix(result)).toBe(true);
  expect(result.pairs).toHaveLength(pairs);
}

describe.each(['route', 'direct'])('a lab with -kernel-path=%s', (mode) => {
  afterAll(() => expectNoLeftovers()); // the first to be said is the last to be done
  const lab = useLab({ ...withPath(mode), registry: 'directory' });

  it('carries every kind of traffic, all of it in the kernel but for fragments', async () => {
    await expectGreen(lab(), 30);
    for (const { name } of lab().hosts) {
      const { inForce, all, byKernel } = await counted(lab(), name);
      expect(inForce).toBe(mode);
      // 8 MiB to and from each of four containers, in packets of 1,420 bytes
      expect(byKernel).toBeGreaterThan(40_000);
      expect(byKernel / all).toBeGreaterThan(0.98);
    }
  });

  it('lets containers reach the internet in the name of their host', () => expectReachesInternet(lab(), 'host2'));

  it('publishes ports of containers on this and on another host', () =>
    expectPublishes(lab(), (from, to) => lab().publish(parsePublication(from, to))));

  it('carries everything after its daemons were killed, one after the other', async () => {
    for (const { name } of lab().hosts) {
      await lab().stopDaemon(name, 'SIGKILL');
      await lab().startDaemon(name);
    }
    await lab().waitForPeers();
    await expectGreen(lab(), 30);
    for (const { name } of lab().hosts) expect((await counted(lab(), name)).inForce).toBe(mode);
  });
});

describe('a lab in which every host has another setting', () => {
  afterAll(() => expectNoLeftovers());
  const lab = useLab({ ...withPath('direct'), hosts: 1, registry: 'directory' });

  it('carries every kind of traffic, by the kernel between those that have it', async () => {
    for (const mode of ['route', 'auto', 'off']) await lab().addHost(withPath(mode));
    await lab().waitForPeers();
    await expectGreen(lab(), 56);
    const [direct, route, auto, off] = await Promise.all(lab().hosts.map(({ name }) => counted(lab(), name)));
    // tweed's own rules, which were not there when it began, ask for no states and only accept
    expect([direct, route, auto, off].map((host) => host?.inForce)).toEqual(['direct', 'route', 'direct', 'off']);
    for (const host of [direct, route, auto]) expect(host?.byKernel).toBeGreaterThan(20_000);
    expect(off?.byKernel).toBe(0);
  });
});
