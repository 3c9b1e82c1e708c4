import path from 'node:path';
import type { Switch } from '../base/switch.js';
import type { DaemonOptions } from '../daemon/options.js';
import { runFlags, splitEndpoints } from './flag-table.js';
import { type FlagValue, OptionError, type Resolved, type ResolvedFlags, resolveFlags } from './flags.js';

/** What the command line of `tweed run` or `flanneld` asks for. */
export interface RunRequest {
  readonly flags: ResolvedFlags;
  readonly options: DaemonOptions;
  readonly wants: 'run' | 'version' | 'print-config' | 'check';
  readonly json: boolean;
}

/**
 * Reads the options of `tweed run` and `flanneld`.
 *
 * @throws OptionError when a flag or variable cannot be used; HelpRequested.
 */
export function readRunRequest(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): RunRequest {
  const flags = resolveFlags(runFlags, argv, environment);
  const wants =
    (['version', 'print-config', 'check'] as const).find((name) => flags.get(name)?.value === true) ?? 'run';
  return { flags, options: daemonOptions(flags), wants, json: flags.get('json')?.value === true };
}

/** The registry that the flags name. Those of the other groups need not be among them. */
export function registryOptions(flags: ResolvedFlags): DaemonOptions['registry'] {
  const text = (name: string) => flags.get(name)?.value as string;
  if ((text('etcd-certfile') === '') !== (text('etcd-keyfile') === '')) {
    throw new OptionError('-etcd-certfile and -etcd-keyfile belong together; give both or neither');
  }
  const given = {
    caFile: text('etcd-cafile'),
    certFile: text('etcd-certfile'),
    keyFile: text('etcd-keyfile'),
    username: text('etcd-username'),
    password: text('etcd-password'),
  };
  return {
    endpoints: splitEndpoints(text('etcd-endpoints')),
    prefix: text('etcd-prefix'),
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== '')),
  };
}

/** How the interface between hosts is to be chosen. */
export function underlayOptions(flags: ResolvedFlags): DaemonOptions['underlay'] {
  const value = (name: string) => flags.get(name)?.value;
  return {
    interfaces: value('iface') as readonly string[],
    patterns: value('iface-regex') as readonly string[],
    canReach: value('iface-can-reach') as string,
    publicIp: value('public-ip') as string,
    publicIpv6: value('public-ipv6') as string,
  };
}

/** Everything that the flags tell the daemon. @throws OptionError */
export function daemonOptions(flags: ResolvedFlags): DaemonOptions {
  const value = (name: string): FlagValue => (flags.get(name) as Resolved).value;
  const text = (name: string) => value(name) as string;
  const number = (name: string) => value(name) as number;
  const yes = (name: string) => value(name) as boolean;
  const offload = (name: string) => value(name) as Switch;
  const threads = text('forwarder-threads');
  const ttlSeconds = number('subnet-ttl');
  const marginSeconds = number('subnet-lease-renew-margin') * 60;
  return {
    registry: registryOptions(flags),
    underlay: underlayOptions(flags),
    lease: {
      ttlSeconds,
      renewMarginSeconds: marginSeconds < ttlSeconds ? marginSeconds : Math.ceil(ttlSeconds / 2),
      releaseOnExit: yes('release-on-exit'),
      startFromCache: yes('start-from-cache'),
    },
    rules: {
      masquerade: yes('ip-masq'),
      fullyRandom: !yes('ip-masq-fully-random-disable'),
      forward: yes('iptables-forward-rules'),
      blackhole: yes('ip-blackhole-route'),
      resyncSeconds: number('iptables-resync'),
    },
    udp: {
      deviceName: text('device'),
      checkSenders: yes('check-senders'),
      offloads: {
        tunTso: offload('tun-tso'),
        tunUso: offload('tun-uso'),
        udpGso: offload('udp-gso'),
        udpGro: offload('udp-gro'),
        udpBatch: offload('udp-batch'),
      },
      forwarderThreads: threads === 'auto' ? threads : threads === '1' ? 1 : 2,
      socketBuffer: number('socket-buffer'),
      txQueueLength: number('txqueuelen'),
      kernelPath: text('kernel-path') as DaemonOptions['udp']['kernelPath'],
      kernelPathMerge: text('kernel-path-merge') !== 'off',
    },
    wireguard: {
      engine: text('wireguard-engine') as 'auto' | 'kernel' | 'user',
      keyFile: text('wireguard-key-file'),
      socketDirectory: text('wireguard-socket-dir'),
    },
    takeOver: yes('take-over'),
    cleanUpOnExit: yes('clean-up-on-exit'),
    subnetFile: path.resolve(text('subnet-file')),
    runDirectory: text('run-dir').replace(/(?<=.)\/+$/, ''),
    health: { address: text('healthz-ip'), port: number('healthz-port') },
    dropPrivileges: yes('drop-privileges'),
    logLevel: text('log-level') || levelOfVerbosity(number('v')),
  };
}

/** klog's numbers start at "important" and grow; pino's names do the same in coarser steps. */
function levelOfVerbosity(verbosity: number): string {
  if (verbosity === 0) return 'info';
  return verbosity <= 5 ? 'debug' : 'trace';
}
