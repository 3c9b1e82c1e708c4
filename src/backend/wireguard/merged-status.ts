/** One status of several devices, whose peers are the same hosts. */
import type { BackendStatus, FeatureStatus, PeerStatus } from '../backend.js';
import type { EngineStatus } from './engine.js';

export function mergeStatus(
  statuses: readonly EngineStatus[],
): Pick<BackendStatus, 'peers' | 'features' | 'totals' | 'drops'> {
  const peers = new Map<string, PeerStatus>();
  const features = new Map<string, FeatureStatus>();
  const totals: Record<string, number> = {};
  const drops: Record<string, number> = {};
  for (const status of statuses) {
    for (const [key, peer] of status.peers) {
      const other = peers.get(key);
      peers.set(key, other === undefined ? peer : mergePeer(other, peer));
    }
    for (const feature of status.features) {
      // of two that differ, the one that is not as it was wanted
      if (feature.reason !== '' || !features.has(feature.name)) features.set(feature.name, feature);
    }
    addTo(totals, status.totals);
    addTo(drops, status.drops);
  }
  return { peers: [...peers.values()], features: [...features.values()], totals, drops };
}

/** @param one of the device that comes first: IPv4's */
function mergePeer(one: PeerStatus, other: PeerStatus): PeerStatus {
  const endpoints = [one.endpoint, other.endpoint].filter((endpoint) => typeof endpoint === 'string');
  return {
    ...one,
    subnetV6: one.subnetV6 ?? other.subnetV6,
    txPackets: plus(one.txPackets, other.txPackets),
    txBytes: plus(one.txBytes, other.txBytes),
    rxPackets: plus(one.rxPackets, other.rxPackets),
    rxBytes: plus(one.rxBytes, other.rxBytes),
    lastReceived: latest(one.lastReceived, other.lastReceived),
    endpoint: endpoints.length === 0 ? null : endpoints.join(', '),
    lastHandshake: latest(one.lastHandshake ?? null, other.lastHandshake ?? null),
  };
}

/** Null where nobody counts. */
function plus(one: number | null, other: number | null): number | null {
  return one === null || other === null ? null : one + other;
}

function latest(one: number | null, other: number | null): number | null {
  return one === null || other === null ? (one ?? other) : Math.max(one, other);
}

function addTo(sums: Record<string, number>, counts: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(counts)) sums[name] = (sums[name] ?? 0) + count;
}
