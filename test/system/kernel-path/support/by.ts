/** What a backend says of its kernel path. */
import { expect } from 'vitest';
import type { FeatureStatus } from '../../../../src/backend/backend.js';
import type { Host } from '../../datapath/support/site.js';

/** Packets that a host's kernel path has sent and taken in, together. */
export async function carriedByKernel(host: Host): Promise<number> {
  const { totals } = await host.process.status();
  return (totals.kernel_tx_packets ?? 0) + (totals.kernel_rx_packets ?? 0);
}

export const featureOf = (host: Host): Promise<FeatureStatus> => named(host, 'kernel_path');

/** The bridges that packets are spared. */
export const sparedBridges = (host: Host): Promise<FeatureStatus> => named(host, 'kernel_path_bridges');

/** Whether single packets are merged. */
export const merging = (host: Host): Promise<FeatureStatus> => named(host, 'kernel_path_merge');

async function named(host: Host, wanted: string): Promise<FeatureStatus> {
  const { features } = await host.process.status();
  const feature = features.find(({ name }) => name === wanted);
  if (feature === undefined) throw new Error(`no feature ${wanted}`);
  return feature;
}

export async function expectInForce(hosts: readonly Host[], mode: string): Promise<void> {
  for (const host of hosts) expect(await featureOf(host)).toMatchObject({ inForce: mode, reason: '' });
}
