import { messageOf } from '../../base/errors.js';
import { parsePrefix } from '../../base/ipv4.js';
import type { DaemonOptions } from '../../daemon/options.js';
import type { DaemonStatus } from '../../observe/status.js';
import { findUnderlay, type Underlay, type UnderlayOptions } from '../../routes/underlay.js';
import type { NetworkConfig } from '../../subnet/network-config/config.js';
import { fetchStatus } from '../status-client.js';
import { hostChecks } from './doctor-checks.js';
import { type DoctorQuestion, gatherHostFacts } from './doctor-facts.js';
import { gatherRegistryFacts, registryChecks } from './doctor-registry.js';
import { type Check, type Finding, fail, ok, runChecks, warn } from './finding.js';

/** What the checks of the daemon itself are judged by. */
interface DaemonFacts {
  readonly status: DaemonStatus | null;
  readonly underlay: Underlay | string;
}

const daemonChecks: readonly Check<DaemonFacts>[] = [
  {
    id: 'daemon',
    evaluate: ({ status }) => {
      if (status === null) return warn('no daemon answers here', 'systemctl start tweed, or tweed run');
      if (status.ready) return ok(`the daemon (process ${status.process}) is ready: ${status.detail}`);
      return warn(`the daemon (process ${status.process}) is not ready: ${status.detail}`, 'journalctl -u tweed');
    },
  },
  {
    id: 'underlay',
    evaluate: ({ underlay }) =>
      typeof underlay === 'string'
        ? fail(underlay, 'ip address; then name an interface with -iface')
        : ok(`packets between hosts go by ${underlay.name}, MTU ${underlay.mtu}`),
  },
];

/** Bytes that each backend puts around a packet, and the port it is sent to. */
const backends: Readonly<Record<string, { readonly overhead: number; readonly port: number }>> = {
  udp: { overhead: 28, port: 8285 },
  vxlan: { overhead: 50, port: 8472 },
  'host-gw': { overhead: 0, port: 0 },
};

/** Looks at this host, at its daemon if one runs, and at the registry. Changes nothing. */
export async function examineHost(
  options: Pick<DaemonOptions, 'registry' | 'underlay' | 'udp' | 'runDirectory'>,
): Promise<readonly Finding[]> {
  const [status, underlay, registry] = await Promise.all([
    fetchStatus(options.runDirectory).catch(() => null),
    underlayOrReason(options.underlay),
    gatherRegistryFacts(options.registry),
  ]);
  const host = await gatherHostFacts(question(options.udp, status, underlay, registry.config));
  return [
    ...runChecks(daemonChecks, { status, underlay }),
    ...runChecks(hostChecks, host),
    ...runChecks(registryChecks, registry),
  ];
}

async function underlayOrReason(options: UnderlayOptions): Promise<Underlay | string> {
  try {
    return (await findUnderlay(options)).underlay;
  } catch (error) {
    return messageOf(error);
  }
}

function question(
  udp: DaemonOptions['udp'],
  status: DaemonStatus | null,
  underlay: Underlay | string,
  config: NetworkConfig | null,
): DoctorQuestion {
  const type = config?.backend.type ?? status?.backend?.type ?? 'udp';
  const known = backends[type] ?? backends.udp;
  const { overhead, port } = known as { overhead: number; port: number };
  const ownPort = config?.backend.options.port;
  const found = typeof underlay === 'string' ? null : underlay;
  const devices: Readonly<Record<string, string>> = {
    vxlan: `flannel.${config?.backend.options.vni ?? 1}`,
    'host-gw': found?.name ?? '',
  };
  return {
    backend: type,
    port: typeof ownPort === 'number' && ownPort > 0 ? ownPort : port,
    device: devices[type] ?? udp.deviceName,
    overhead,
    network: config?.network ?? parsePrefix(status?.network ?? ''),
    subnet: parsePrefix(status?.lease?.subnet ?? ''),
    underlay: found,
    rulesMode: config?.enableNftables ? 'nftables' : 'iptables',
    daemonPid: status?.process ?? null,
    wantedBuffer: udp.socketBuffer,
  };
}

const marks = { ok: 'ok   ', warn: 'warn ', fail: 'FAIL ' } as const;

/** One line for each finding, and the command that mends it below. */
export function renderFindings(findings: readonly Finding[]): string {
  const lines = findings.flatMap(({ id, level, text, fix }) => [
    `${marks[level]} ${id}: ${text}`,
    ...(fix === '' ? [] : [`        mend it: ${fix}`]),
  ]);
  const count = (level: Finding['level']) => findings.filter((finding) => finding.level === level).length;
  return `${lines.join('\n')}\n${count('fail')} failures, ${count('warn')} warnings, ${count('ok')} in order\n`;
}
