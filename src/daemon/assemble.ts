import path from 'node:path';
import { backendKind, createBackend } from '../backend/select.js';
import { isIpv4Prefix } from '../base/address.js';
import { systemClock } from '../base/clock.js';
import { exec } from '../base/exec.js';
import { type Prefix, samePrefix } from '../base/ipv4.js';
import type { Logger } from '../base/log.js';
import { redactUrls } from '../base/redact.js';
import { inheritedFrom } from '../linux/inheritance.js';
import type { Run } from '../routes/ip.js';
import { ensureBlackhole, removeBlackhole } from '../routes/links.js';
import { forwardRefusal, readFirewall } from '../routes/rules/forward-refusal.js';
import { createTrafficRules } from '../routes/rules/traffic-rules.js';
import { findUnderlay } from '../routes/underlay.js';
import { DEFAULT_ETCD_PREFIX } from '../subnet/keys.js';
import type { Subnets } from '../subnet/lease.js';
import { LeaseManager } from '../subnet/leases/lease-manager.js';
import { PeerCache } from '../subnet/leases/peer-cache.js';
import type { NetworkConfig } from '../subnet/network-config/config.js';
import { openRegistryLater } from '../subnet/open-registry.js';
import { formerNetworks, type PreviousSubnetEnv, readSubnetEnv, writeSubnetEnv } from '../subnet/subnet-env.js';
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
  createRules: createHostRules,
  readSubnetFile: readSubnetEnv,
  writeSubnetFile: writeSubnetEnv,
};

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

function createHostRules(
  { rules }: DaemonOptions,
  config: NetworkConfig,
  { subnet }: Subnets,
  past: PreviousSubnetEnv,
  signal: AbortSignal,
): HostRules {
  const { ipv4 } = config;
  if (ipv4 === null || subnet === null) return noRules;
  const mode = config.enableNftables ? 'nftables' : 'iptables';
  const wanted = {
    network: ipv4.network,
    subnet,
    masquerade: rules.masquerade,
    randomFully: rules.fullyRandom,
    forward: rules.forward,
    formerNetworks: formerNetworks(past, [ipv4.network]).filter(isIpv4Prefix),
  };
  const run: Run = (argv, options) => exec(argv, { ...options, signal });
  const traffic = createTrafficRules(mode, wanted, { run });
  const lasting = createTrafficRules(mode, wanted);
  const blackhole = () => (rules.blackhole ? ensureBlackhole(subnet) : Promise.resolve([]));
  return {
    apply: async () => [
      ...(await traffic.apply()),
      ...(await removeFormerBlackhole(rules.blackhole, subnet, past.subnet)),
      ...(await blackhole()),
    ],
    check: async () => [...(await traffic.check()), ...(await blackhole())],
    obstacles: async () => {
      if (!rules.forward) return []; // whoever makes these rules himself knows better
      const refusal = forwardRefusal(ipv4.network, mode, await readFirewall(run));
      return refusal === null ? [] : [`forwarded packets are refused: ${refusal.text}; ${refusal.fix}`];
    },
    cleanUp: async () => [...(await lasting.cleanUp()), ...(rules.blackhole ? await removeBlackhole(subnet) : [])],
  };
}

/** Where there is nothing to make rules for. */
const noRules: HostRules = {
  apply: async () => [],
  check: async () => [],
  obstacles: async () => [],
  cleanUp: async () => [],
};

/** The blackhole of a subnet that is another host's by now would cut that host off from here. */
async function removeFormerBlackhole(
  wanted: boolean,
  subnet: Prefix,
  former: Prefix | null,
): Promise<readonly string[]> {
  if (former === null || (wanted && samePrefix(former, subnet))) return [];
  return removeBlackhole(former);
}
