/** Daemons with a kernel path: two networks on the same hosts, one that takes another's place, and kernels that refuse. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import type { DaemonStatus } from '../../../src/observe/status.js';
import { fetchStatus } from '../../../src/operator/status-client.js';
import { openRegistry } from '../../../src/subnet/open-registry.js';
import { deviceAddress, eventually, type RunningDaemon, type TestHost, TestNetwork } from '../daemon/hosts.js';
import { Traffic } from '../daemon/traffic.js';
import { expectNoLeftovers } from './support/leftovers.js';
import { LOCKED, WITHOUT_BPF, WITHOUT_PROGRAMS, WITHOUT_TCX } from './support/refuse-bpf.js';

const tweed = fileURLToPath(new URL('../../../dist/cli/tweed.cjs', import.meta.url));

let network: TestNetwork;
let traffic: Traffic | null;
beforeEach(async () => {
  network = await TestNetwork.create();
  traffic = null;
});
afterEach(async () => {
  await traffic?.end();
  await network.remove();
  await expectNoLeftovers();
});

/** Which words of Node's make the kernel what it is to be, and how programs hang there. */
const kernels = [
  ['links', []],
  ['filters, as before Linux 6.6', WITHOUT_TCX],
] as const;

/** The running kernel has links, so the daemon itself would give up the right to mount that filters need. */
const start = (host: TestHost, node: readonly string[], ...args: readonly string[]): RunningDaemon =>
  host.start([...args, '-drop-privileges=false'], { program: [process.execPath, ...node, tweed] });

const kernelPathOf = ({ backend }: DaemonStatus) => backend?.features.find(({ name }) => name === 'kernel_path');

function carriedByKernel({ backend }: DaemonStatus): number {
  const { kernel_tx_packets: sent = 0, kernel_rx_packets: received = 0 } = backend?.totals ?? {};
  return sent + received;
}

const qdiscs = async (host: TestHost) => (await host.run('tc', 'qdisc', 'show')).stdout;

describe.each(kernels)('by %s', (_, node) => {
  it('two networks on the same hosts each have their own, and one stays when the other goes', async () => {
    const [first] = network.hosts;
    const second = `file://${first.directory}/second`;
    const registry = await openRegistry({ endpoints: [second] }, silentLogger());
    await registry.setConfig('{"Network":"100.97.0.0/16","Backend":{"Type":"udp","Port":8286}}', null);
    await registry.close();
    const overlays = [
      { prefix: '100.96.0.0/16', args: [network.endpoint] },
      { prefix: '100.97.0.0/16', args: [`-etcd-endpoints=${second}`, '-device=flannel1'] },
    ] as const;
    const daemons = overlays.map(({ args, prefix }) =>
      network.hosts.map((host) => {
        const file = `-subnet-file=${path.join(host.directory, `${prefix.replace('/', '-')}.env`)}`;
        return start(host, node, ...args, file, '-kernel-path=route');
      }),
    );
    const statusOf = (host: TestHost, { prefix }: { readonly prefix: string }) =>
      fetchStatus(host.directory, { network: prefix });
    /** Each host pings the other's device by this overlay; the kernel carries it, there and back. */
    const expectCarried = async (overlay: (typeof overlays)[number]) => {
      for (const [i, host] of network.hosts.entries()) {
        const other = network.hosts[1 - i] as TestHost;
        await eventually(async () => {
          for (const each of [host, other]) {
            const status = await statusOf(each, overlay);
            expect(status.ready && status.backend?.peers.length).toBe(1);
            expect(kernelPathOf(status)).toMatchObject({ inForce: 'route', reason: '' });
          }
        });
        await host.reaches(deviceAddress(await statusOf(other, overlay)));
        const before = carriedByKernel(await statusOf(host, overlay));
        const ping = ['ping', '-n', '-c5', '-i0.2', '-W5', deviceAddress(await statusOf(other, overlay))];
        expect((await host.run(...ping)).stdout).toContain(' 0% packet loss');
        const status = await statusOf(host, overlay);
        expect(carriedByKernel(status)).toBeGreaterThanOrEqual(before + 10);
        const drops = Object.entries(status.backend?.drops ?? {}).filter(
          ([name, n]) => name.startsWith('rx_') && n > 0,
        );
        expect(drops).toEqual([]);
      }
    };
    const [one, two] = overlays;
    for (const overlay of overlays) await expectCarried(overlay);
    for (const daemon of daemons[0] ?? []) expect(await daemon.stop()).toBe(0);
    await expectCarried(two);
    const [again] = network.hosts.map((host) => start(host, node, ...one.args, '-kernel-path=route'));
    for (const overlay of overlays) await expectCarried(overlay);
    for (const host of network.hosts) expect((await statusOf(host, two)).repairs).toBe(0);
    for (const daemon of daemons[1] ?? []) expect(await daemon.stop()).toBe(0);
    expect(await again?.stop()).toBe(0);
    expect(await qdiscs(first)).not.toContain('clsact');
  });

  it.each(['route', 'direct'])('a daemon gives its place to others under traffic, kernel path %s', async (mode) => {
    const [first, second] = network.hosts;
    const args = [network.endpoint, `-kernel-path=${mode}`];
    let daemon = start(first, node, ...args);
    start(second, node, ...args);
    await Promise.all(network.hosts.map((host) => host.ready(1)));
    await first.reaches(deviceAddress(await second.status()));
    traffic = await Traffic.between(first, second);
    for (let round = 0; round < 5; round++) {
      const next = start(first, node, ...args, '-take-over');
      expect(await daemon.exited).toBe(0);
      daemon = next;
      await first.ready(1);
      // its own programs carry the traffic, and nobody has taken them off
      await eventually(async () => expect(carriedByKernel(await first.status())).toBeGreaterThan(100));
      expect(await first.status()).toMatchObject({ repairs: 0 });
    }
    expect(await traffic.result()).toEqual({ lost: 0, streams: 'whole' });
    expect(await daemon.stop()).toBe(0);
    expect(await qdiscs(first)).not.toContain('clsact');
  });

  it('one that is killed leaves nothing to the next that outlives it', async () => {
    const [first, second] = network.hosts;
    const args = [network.endpoint, '-kernel-path=route'];
    start(second, node, ...args);
    const daemon = start(first, node, ...args);
    await Promise.all(network.hosts.map((host) => host.ready(1)));
    await daemon.stop('SIGKILL');
    const next = start(first, node, ...args);
    await first.ready(1);
    await first.reaches(deviceAddress(await second.status()));
    await eventually(async () => expect(carriedByKernel(await first.status())).toBeGreaterThan(0));
    expect(await next.stop()).toBe(0);
    expect(await qdiscs(first)).not.toContain('clsact');
  });
});

describe('a kernel that refuses', () => {
  it.each([
    ['bpf(2) as a whole, being built without it', WITHOUT_BPF, [], /ENOSYS.*CONFIG_BPF_SYSCALL/],
    ['maps and programs, being locked down', LOCKED, [], /\(maps\).*EPERM.*CAP_BPF.*lockdown/],
    ['programs', WITHOUT_PROGRAMS, [], /\(programs\).*EPERM.*CAP_BPF.*lockdown/],
    // CAP_BPF has a number only, to a tool that is older
    ['a process without the rights', [], ['setpriv', '--bounding-set', '-sys_admin,-cap_39'], /EPERM.*CAP_BPF/],
  ] as const)('%s: the reason is told, and user space carries everything', async (_, node, through, reason) => {
    const [first, second] = network.hosts;
    for (const host of network.hosts) {
      const program = [process.execPath, ...node, tweed];
      host.start([network.endpoint, '-kernel-path=direct'], { program, through });
    }
    await Promise.all(network.hosts.map((host) => host.ready(1)));
    for (const host of network.hosts) {
      const told = kernelPathOf(await host.status());
      expect(told).toMatchObject({ wanted: 'direct', inForce: 'off', reason: expect.stringMatching(reason) });
    }
    await first.reaches(deviceAddress(await second.status()));
    expect(carriedByKernel(await first.status())).toBe(0);
    expect((await first.status()).backend?.totals).toMatchObject({ tx_packets: expect.any(Number) });
  });
});
