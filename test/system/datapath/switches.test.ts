/** Every setting of the offload switches carries everything, byte for byte. */
import { describe, expect, it } from 'vitest';
import type { BackendStatus } from '../../../src/backend/backend.js';
import { expectInForce } from '../kernel-path/support/by.js';
import { OFF, type Offloads } from './support/host.js';
import { probeKernel } from './support/kernel.js';
import { describeSetting, halfOfSettings, ON } from './support/settings.js';
import { type Host, overheadOf, type Site, useSite } from './support/site.js';
import { file, NumberedStream, ping, sendFile } from './support/transfer.js';

const site = useSite();

const MIB = 1 << 20;
const IP_AND_UDP = 28;

/** All that crosses an overlay: TCP both ways at once, then datagrams of all kinds, pings, fragments. */
async function everything(there: Site): Promise<void> {
  const [one, two] = [there.host(1), there.host(2)];
  await Promise.all([
    sendFile(one.end, two.end, file(4 * MIB + 1, 1)),
    sendFile(two.end, one.end, file(3 * MIB + 7, 2)),
  ]);
  await datagrams(one, two, there.innerMtu);
  await datagrams(two, one, there.innerMtu);
}

async function datagrams(from: Host, to: Host, mtu: number): Promise<void> {
  const full = mtu - IP_AND_UDP;
  const stream = new NumberedStream(from.end, to.end);
  for (const size of [4, 5, 64, 1200, full]) stream.send(size, 40);
  for (let size = 7; size < 1400; size += 97) stream.send(size);
  await stream.complete();
  stream.sendUnchecked(300, 40);
  stream.sendSegmented(100, 60, 37);
  stream.sendSegmented(1200, 40, 1199);
  stream.sendSegmented(full, Math.floor(65_000 / full), 0);
  stream.sendSegmented(4, 64, 0);
  await stream.complete();
  stream.sendEmpty();
  for (const size of [full + 1, 2 * mtu, 20_000, 65_000]) stream.send(size);
  await stream.complete();
  expect(stream.duplicates).toBe(0);
  expect(stream.empty).toBe(1);
  stream.close();
  await ping(from.container, to.containerIp, 56);
  await ping(from.container, to.containerIp, 3 * mtu);
}

const kernel = await probeKernel();

async function useMtu(there: Site, mtu: number, sealed: boolean): Promise<void> {
  if (there.mtu !== mtu || there.innerMtu !== mtu - overheadOf({ sealed })) await there.setMtu(mtu, { sealed });
}

/** What is in force is what was asked for, and it was really used, or not. */
function expectUse({ features, totals }: BackendStatus, own: Offloads, far: Offloads): void {
  for (const { name, wanted, inForce, reason } of features) {
    expect(reason !== '', `${name}: ${reason}`).toBe(wanted !== 'off' && inForce === 'off');
  }
  const inForce = Object.fromEntries(features.map((feature) => [feature.name, feature.inForce === 'on']));
  const tso = own.tunTso !== 'off';
  const uso = tso && own.tunUso !== 'off' && kernel.uso;
  expect(inForce).toMatchObject({
    tun_tso: tso,
    tun_uso: uso,
    udp_gso: own.udpGso !== 'off',
    udp_gro: own.udpGro !== 'off',
    udp_batch: own.udpBatch !== 'off',
    merge_tcp: tso,
    merge_udp: uso,
  });
  expect(used(totals, 'tx_super_packets')).toBe(tso);
  expect(used(totals, 'tx_segmented_sends')).toBe(own.udpGso !== 'off');
  const coalesced = own.udpGro !== 'off' && far.udpGso !== 'off' && kernel.wholeAcrossVeth;
  expect(used(totals, 'rx_coalesced_datagrams')).toBe(coalesced);
  const severalAtOnce = own.udpBatch !== 'off' || coalesced;
  expect(used(totals, 'rx_merged_writes')).toBe(tso && severalAtOnce);
  expect(totals.rx_bad_inner_checksum).toBe(0);
}

function used(totals: BackendStatus['totals'], name: string): boolean {
  const count = totals[name];
  if (count === undefined) throw new Error(`the status has no total ${name}`);
  return count > 0;
}

/** A fault of the data path would show as a drop even where TCP hides it; only full queues are the kernel's own, and of two handshakes
 * that cross one may come to nothing. */
function expectNoDrops({ drops }: BackendStatus): void {
  const { tx_tun_queue_full: _tun, rx_socket_queue_full: _socket, handshake_unexpected_response: _, ...faults } = drops;
  expect(Object.entries(faults).filter(([, count]) => count !== 0)).toEqual([]);
}

describe.each([
  ['plain', 1500, false, 'even'],
  ['plain', 9000, false, 'odd'],
  ['sealed', 1500, true, 'odd'],
  ['sealed', 9000, true, 'even'],
] as const)('%s, with an underlay of MTU %i', (_kind, mtu, sealed, parity) => {
  it.each(halfOfSettings(parity).map((offloads) => [describeSetting(offloads), offloads] as const))(
    '%s',
    async (_name, offloads) => {
      const there = site();
      await useMtu(there, mtu, sealed);
      await there.start({ offloads, sealed });
      await everything(there);
      for (const host of there.hosts) {
        const status = await host.process.status();
        expectUse(status, offloads, offloads);
        expectNoDrops(status);
      }
    },
  );

  it.each([
    ['all on', 1, ON],
    ['all on', 2, ON],
    ['all off', 1, OFF],
    ['all off', 2, OFF],
  ] as const)('%s, by %i forwarder threads', async (_name, forwarderThreads, offloads) => {
    const there = site();
    await useMtu(there, mtu, sealed);
    await there.start({ offloads, forwarderThreads, sealed });
    await everything(there);
    for (const host of there.hosts) {
      const status = await host.process.status();
      expect(status.features.find(({ name }) => name === 'forwarder_threads')?.inForce).toBe(String(forwarderThreads));
      expectUse(status, offloads, offloads);
      expectNoDrops(status);
    }
  });

  it.each([
    ['the first host', ON, OFF],
    ['the second host', OFF, ON],
  ] as const)('all on at %s, all off at the other', async (_name, first, second) => {
    const there = site();
    await useMtu(there, mtu, sealed);
    await there.start({ offloads: first, sealed }, { offloads: second, sealed });
    await everything(there);
    for (const [i, host] of there.hosts.entries()) {
      const status = await host.process.status();
      expectUse(status, i === 0 ? first : second, i === 0 ? second : first);
      expectNoDrops(status);
    }
  });

  describe('that cuts super-packets itself', () => {
    it.each([
      ['all on', ON],
      ['all off', OFF],
      ['no UDP GRO', { ...ON, udpGro: 'off' }],
      ['no batched receive', { ...ON, udpBatch: 'off' }],
      ['no UDP GSO', { ...ON, udpGso: 'off' }],
    ] as const)('%s', async (_name, offloads) => {
      const there = site();
      await useMtu(there, mtu, sealed);
      await there.setUnderlaySegmentation(false);
      try {
        await there.start({ offloads, sealed });
        await everything(there);
        for (const host of there.hosts) expectNoDrops(await host.process.status());
      } finally {
        await there.setUnderlaySegmentation(true);
      }
    });
  });
});

describe.each(['route', 'direct'] as const)('with -kernel-path=%s, whatever user space may do', (kernelPath) => {
  describe.each([1500, 9000])('with an underlay of MTU %i', (mtu) => {
    it.each([
      ['all on', ON, ON],
      ['all off', OFF, OFF],
      ['all on at the first host, all off at the other', ON, OFF],
    ] as const)('%s', async (_name, first, second) => {
      const there = site();
      await useMtu(there, mtu, false);
      await there.start({ offloads: first, kernelPath }, { offloads: second, kernelPath });
      await expectInForce(there.hosts, kernelPath);
      await everything(there);
      for (const host of there.hosts) expectNoDrops(await host.process.status());
    });
  });
});
