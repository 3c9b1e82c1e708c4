import path from 'node:path';
import { backendKind, createBackend } from '../backend/select.js';
import { systemClock } from '../base/clock.js';
import type { Logger } from '../base/log.js';
import { redactUrls } from '../base/redact.js';
import { inheritedFrom } from '../linux/inheritance.js';
import { findUnderlay } from '../routes/underlay.js';
import { DEFAULT_ETCD_PREFIX } from '../subnet/keys.js';
import { LeaseManager } from '../subnet/leases/lease-manager.js';
import { PeerCache } from '../subnet/leases/peer-cache.js';
import { openRegistryLater } from '../subnet/open-registry.js';
import { readSubnetEnv, writeSubnetEnv } from '../subnet/subnet-env.js';
import { HandOver, handOverSocket, handOverSocketOf, offerHandOver } from './hand-over.js';
import { lockInstance } from './instance-lock.js';
import type { DaemonOptions } from './options.js';
import type { DaemonParts, HostRules, RegistryHandle } from './parts.js';
import { recheckUnderlay } from './underlay-watch.js';

/** How long the registry may keep silent at start before also an outdated cache is used, where that is wanted. */
const CACHE_PATIENCE_MS = 5000;

/** What daemons on real hosts are put together from. */
export const realParts: DaemonParts = {
  clock: systemClock,
  lock: async (name) => lockInstance(name),
  inherit: () => inheritedFrom(process.env),
  takeOver: async (runDirectory, holder, serving, inheritance) =>
    HandOver.begin(handOverSocketOf(runDirectory, holder), serving, inheritance),
  offerHandOver: (statusSocket, giver, log) => offerHandOver(handOverSocket(statusSocket), giver, log),
  findUnderlay: (options) => findUnderlay(options),
  recheckUnderlay,
  openRegistry: async (options, log) => openHostRegistry(options, log),
  createBackend,
  deviceOf: ({ backend: { type, options } }, daemon) => backendKind(type).deviceName(options, daemon),
  createRules: (...given) => whenUsed(async () => (await import('./host-rules.js')).createHostRules(...given)),
  readSubnetFile: readSubnetEnv,
  writeSubnetFile: writeSubnetEnv,
};

/** Their code is large, and has its turn when packets flow already. */
function whenUsed(make: () => Promise<HostRules>): HostRules {
  let made: Promise<HostRules> | null = null;
  const rules = () => {
    made ??= make();
    return made;
  };
  return {
    apply: async () => (await rules()).apply(),
    check: async () => (await rules()).check(),
    obstacles: async () => (await rules()).obstacles(),
    cleanUp: async () => (await rules()).cleanUp(),
  };
}

function openHostRegistry(options: DaemonOptions, log: Logger): RegistryHandle {
  const registry = openRegistryLater(options.registry, log);
  const { ttlSeconds, renewMarginSeconds, startFromCache } = options.lease;
  const cache = new PeerCache(peerCacheFile(options), log, registryName(options));
  return {
    createLeases: (host, previous) =>
      new LeaseManager({
        registry,
        log,
        host,
        previous,
        ttlSeconds,
        renewMarginMs: renewMarginSeconds * 1000,
        cache,
        ...(startFromCache ? { startFromCacheAfterMs: CACHE_PATIENCE_MS } : {}),
      }),
    close: () => registry.close(),
  };
}

/** So that nobody begins with what he learnt from another one. */
function registryName({ registry: { endpoints, prefix = DEFAULT_ETCD_PREFIX } }: DaemonOptions): string {
  return JSON.stringify([...endpoints].map(redactUrls).sort().concat(prefix));
}

/** Daemons that share a run directory have different prefixes, or else different devices. */
export function peerCacheFile({
  runDirectory,
  udp,
  registry: { prefix = DEFAULT_ETCD_PREFIX },
}: DaemonOptions): string {
  const suffix = prefix === DEFAULT_ETCD_PREFIX ? '' : `.${encodeURIComponent(prefix)}`;
  return path.join(runDirectory, `${udp.deviceName}${suffix}.cache.json`);
}
