import type { BackendStatus } from '../../backend/backend.js';
import { backendKind } from '../../backend/select.js';
import { readWireguardOptions, WIREGUARD_DEVICE_V6, type WireguardMode } from '../../backend/wireguard/options.js';
import { messageOf } from '../../base/errors.js';
import { parsePrefix } from '../../base/ipv4.js';
import { parseIpv6Prefix } from '../../base/ipv6.js';
import { plural } from '../../base/plural.js';
import { printable } from '../../base/printable.js';
import type { DaemonOptions } from '../../daemon/options.js';
import type { DaemonStatus } from '../../observe/status.js';
import { findUnderlay, type Underlay, type UnderlayOptions } from '../../routes/underlay.js';
import { type BackendConfig, type NetworkConfig, networkName } from '../../subnet/network-config/config.js';
import { fetchAll, fetchStatuses } from '../status-client.js';
import { type Checks, type Finding, fail, ok, runChecks, warn } from './finding.js';
import { hostChecks } from './host-checks.js';
import { type DoctorQuestion, gatherHostFacts, type WireguardAnswer } from './host-facts.js';
import { gatherIpv6Facts, ipv6Checks } from './ipv6-checks.js';
import { gatherKernelPathFacts, kernelPathChecks, renderPrograms } from './kernel-path.js';
import { outerFamilies } from './outer-families.js';
import { gatherRegistryFacts, registryChecks } from './registry-checks.js';

/** What the checks of the daemon itself are judged by. */
interface DaemonFacts {
  readonly status: DaemonStatus | null;
  /** What to say of a daemon that does not answer; empty where there is none. */
  readonly silent: string;
  readonly underlay: Underlay | string;
}

const daemonChecks: Checks<DaemonFacts> = {
  daemon: ({ status, silent }) => {
    if (status === null && silent !== '') return fail(silent, 'journalctl -u tweed; systemctl restart tweed');
    if (status === null) return warn('no daemon answers here', 'systemctl start tweed, or tweed run');
    if (status.ready) return ok(`the daemon (process ${status.process}) is ready: ${status.detail}`);
    return warn(`the daemon (process ${status.process}) is not ready: ${status.detail}`, 'journalctl -u tweed');
  },
  'daemon-warnings': ({ status }) => (status?.warnings ?? []).map((warning) => warn(warning, 'tweed status')),
  underlay: ({ underlay }) =>
    typeof underlay === 'string'
      ? fail(underlay, 'ip address; then name an interface with -iface')
      : ok(`packets between hosts go by ${underlay.name}, MTU ${underlay.mtu}`),
};

/** The kernel path: what there is to say, and the programs themselves. Changes nothing. */
export async function examineKernel(
  options: Pick<DaemonOptions, 'registry' | 'underlay' | 'runDirectory'>,
): Promise<{ readonly findings: readonly Finding[]; readonly programs: string }> {
  const [statuses, underlay, { config }] = await Promise.all([
    fetchStatuses(options.runDirectory, { namespace: 'own' }),
    underlayOrReason(options.underlay),
    gatherRegistryFacts(options.registry),
  ]);
  const usable = config?.backend.type === 'udp' && isUsable(config.backend) ? config.backend.options : {};
  const port = backendKind('udp').port(usable, true) ?? 0;
  const facts = await gatherKernelPathFacts(statuses, typeof underlay === 'string' ? null : underlay.name, port);
  return { findings: runChecks(kernelPathChecks, facts), programs: renderPrograms(facts.reports) };
}

/** Looks at this host, at its daemon if one runs, and at the registry. Changes nothing. */
export async function examineHost(
  options: Pick<DaemonOptions, 'registry' | 'underlay' | 'udp' | 'runDirectory'>,
): Promise<readonly Finding[]> {
  const [{ statuses: daemons, silent }, underlay, registry] = await Promise.all([
    fetchAll(options.runDirectory, { namespace: 'own' }),
    underlayOrReason(options.underlay),
    gatherRegistryFacts(options.registry),
  ]);
  const network = registry.config === null ? null : networkName(registry.config);
  // One alone may serve a network that was another's in the registry until now.
  const status = daemons.find((one) => one.network === network) ?? (daemons.length === 1 ? daemons[0] : null) ?? null;
  const ipv6 = await gatherIpv6Facts(registry.config, underlay);
  const host = await gatherHostFacts(question(options.udp, status, underlay, registry.config));
  return [
    ...runChecks(daemonChecks, { status, silent, underlay }),
    ...runChecks(hostChecks, host),
    ...(ipv6 === null ? [] : runChecks(ipv6Checks, ipv6)),
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
  const { backend = { type: status?.backend?.type ?? 'udp', options: {} } } = config ?? {};
  const usable = isUsable(backend) ? backend : { type: 'udp', options: {} };
  const kind = backendKind(usable.type);
  const found = typeof underlay === 'string' ? null : underlay;
  const ownDevice = kind.deviceName(usable.options, { udp });
  const served = status?.backend?.device.split(', ') ?? [];
  const peers = status?.backend?.peers ?? [];
  const networkV6 = config?.ipv6?.network ?? null;
  const mode = kind.type === 'wireguard' ? readWireguardOptions(usable.options).options.mode : null;
  return {
    backend: kind,
    port: kind.port(usable.options, config?.ipv4 !== null),
    outerFamilies: outerFamilies({ type: kind.type, mode, underlay: found, networkV6, peers }),
    portV6: kind.port(usable.options, false),
    device: ownDevice ?? found?.name ?? '',
    ownDevices: [ownDevice, ...served].filter(
      (name) => name !== null && name !== '' && name !== found?.name,
    ) as string[],
    network: config?.ipv4?.network ?? parsePrefix(status?.network ?? ''),
    subnet: parsePrefix(status?.lease?.subnet ?? ''),
    networkV6,
    subnetV6: parseIpv6Prefix(status?.lease?.subnetV6 ?? ''),
    deviceV6: deviceOfIpv6(kind.type, mode, ownDevice ?? found?.name ?? ''),
    underlay: found,
    rulesMode: config?.enableNftables ? 'nftables' : 'iptables',
    peers,
    daemonPid: status?.process ?? null,
    wantedBuffer: udp.socketBuffer,
    wireguard: wireguardAnswer(status?.backend ?? null),
  };
}

function wireguardAnswer(backend: BackendStatus | null): WireguardAnswer | null {
  if (backend?.type !== 'wireguard') return null;
  const engine = backend.features.find(({ name }) => name === 'engine');
  if (engine === undefined) return null;
  const strangers = backend.peers.filter(({ lastHandshake }) => lastHandshake === null);
  return {
    engine: engine.inForce,
    reason: engine.reason,
    unanswered: backend.totals.handshakes_unanswered ?? 0,
    strangers: strangers.map(({ publicIp, publicIpv6 }) => publicIp || (publicIpv6 ?? '')),
  };
}

/** vxlan has another for it, and wireguard in the mode `separate`. */
function deviceOfIpv6(type: string, mode: WireguardMode | null, device: string): string {
  if (type === 'vxlan') return device.replace(/^flannel\./, 'flannel-v6.');
  return mode === 'separate' ? WIREGUARD_DEVICE_V6 : device;
}

/** What is wrong with a configuration is another check's question. */
function isUsable(backend: BackendConfig): boolean {
  try {
    backendKind(backend.type).checkOptions(backend.options, false);
    return true;
  } catch {
    return false;
  }
}

const marks = { ok: 'ok   ', warn: 'warn ', fail: 'FAIL ', skip: 'skip ' } as const;

/** One line for each finding, and the command that mends it below. */
export function renderFindings(findings: readonly Finding[]): string {
  const lines = findings.flatMap(({ id, level, text, fix }) => [
    `${marks[level]} ${id}: ${printable(text)}`,
    ...(fix === '' ? [] : [`        mend it: ${printable(fix)}`]),
  ]);
  const count = (level: Finding['level']) => findings.filter((finding) => finding.level === level).length;
  return `${lines.join('\n')}\n${plural(count('fail'), 'failure')}, ${plural(count('warn'), 'warning')}, ${count('ok')} in order${count('skip') > 0 ? `, ${count('skip')} not looked at` : ''}\n`;
}
