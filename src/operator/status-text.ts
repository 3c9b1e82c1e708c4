import type { BackendStatus, PeerStatus } from '../backend/backend.js';
import { comparePrefixes, parseAnyPrefix } from '../base/address.js';
import { type Histogram, splitTotals } from '../observe/histograms.js';
import type { DaemonStatus, LeaseStatus } from '../observe/status.js';
import { alignColumns, formatBitRate, formatBytes, formatCount, formatDuration } from './format.js';
import type { HostNames } from './host-names.js';

/** What else there is to show. */
export interface StatusView {
  /** Totals and features too, which are about the inside. */
  readonly verbose?: boolean;
  readonly names?: HostNames;
  /** An earlier status, and the milliseconds since: then rates stand where totals do else. */
  readonly earlier?: { readonly status: DaemonStatus; readonly milliseconds: number } | null;
}

/** The status on one screen, what is amiss first. `now` is in milliseconds since the epoch. */
export function renderStatus(status: DaemonStatus, now: number, view: StatusView = {}): string {
  const lines = [headline(status, now), ...alignColumns([...problems(status), ...facts(status)])];
  if (status.backend !== null) lines.push(...backendLines(status.backend, now, view));
  return `${lines.join('\n')}\n`;
}

function headline(status: DaemonStatus, now: number): string {
  const age = formatDuration((now - Date.parse(status.startedAt)) / 1000);
  const state = status.ready ? 'ready' : `${status.phase}: ${status.detail}`;
  return `tweed ${status.version}, process ${status.process}, up ${age}, ${state}`;
}

type Row = readonly [string, string];

function problems(status: DaemonStatus): Row[] {
  const rows: Row[] = [];
  const { registry } = status;
  for (const warning of status.warnings) rows.push(['  warning', warning]);
  if (!registry.connected)
    rows.push(['  registry', `${registry.kind} ${registry.endpoints.join(', ')}, NOT connected: ${registry.error}`]);
  for (const { subnet, publicIp, reason } of status.backend?.refused ?? []) {
    rows.push(['  refused', `${subnet} at ${publicIp}: ${reason}`]);
  }
  // a daemon of an earlier version does not tell
  if (status.unforeseenErrors > 0)
    rows.push(['  bugs', `${formatCount(status.unforeseenErrors)}, survived; see the log`]);
  const { lost, waiting, error } = status.log;
  if (lost > 0 || error !== '') {
    const why = error === '' ? '' : ` (${error})`;
    rows.push(['  log', `${formatCount(lost)} lines lost, ${formatCount(waiting)} wait${why}`]);
  }
  return rows;
}

function facts(status: DaemonStatus): Row[] {
  const rows: [string, string][] = [];
  const { lease, underlay, registry, backend, port, portV6 } = status;
  if (lease !== null) {
    const network = status.network === null ? '' : ` of ${both(status.network, status.networkV6)}`;
    rows.push([
      'lease',
      `${both(lease.subnet, lease.subnetV6)}${network}, ${timeLeft(lease)}${lease.fromCache ? ', from the cache' : ''}`,
    ]);
  }
  if (backend !== null) {
    const second = typeof portV6 === 'number' ? `, IPv6’s ${portV6}` : '';
    const listens = typeof port === 'number' ? `, UDP port ${port}${second}` : '';
    rows.push(['interface', `${backend.device}, ${backend.type}${listens}, MTU ${backend.mtu}`]);
  }
  if (underlay !== null) {
    const address = both(underlay.address, underlay.addressV6);
    const known = lease === null ? address : both(lease.publicIp, lease.publicIpv6);
    const behind = known === address ? '' : `, public address ${known}`;
    rows.push(['underlay', `${underlay.interface}, ${address}, MTU ${underlay.mtu}${behind}`]);
  }
  if (registry.connected) rows.push(['registry', `${registry.kind} ${registry.endpoints.join(', ')}, connected`]);
  if (status.repairs > 0) rows.push(['repairs', formatCount(status.repairs)]);
  return rows.map(([name, value]) => [`  ${name}`, value]);
}

function timeLeft({ secondsLeft }: LeaseStatus): string {
  if (secondsLeft === null) return 'reserved, does not expire';
  return secondsLeft === 0 ? 'expired' : `${formatDuration(secondsLeft)} left`;
}

function backendLines(backend: BackendStatus, now: number, view: StatusView): string[] {
  const lines = ['', `peers: ${backend.peers.length}`];
  if (backend.peers.length > 0) {
    const sorted = [...backend.peers].sort(bySubnet);
    lines.push(
      ...alignColumns([
        [
          '  subnet',
          'public address',
          ...(isNamed(sorted, view) ? ['name'] : []),
          ...['received', '', 'sent', '', 'last packet'],
          ...sessionTitles(sorted),
        ],
        ...sorted.map((peer) => peerRow(peer, now, view, isNamed(sorted, view))),
      ]),
    );
  }
  const { counters, histograms } = splitTotals(backend.totals);
  const counted = counters.filter(([, count]) => count > 0);
  if (view.verbose) {
    lines.push(
      '',
      counted.length === 0 ? 'totals: all 0' : 'totals:',
      ...countRows(counted),
      ...histogramLines(histograms),
    );
  }
  const dropped = Object.entries(backend.drops).filter(([, count]) => count > 0);
  lines.push('', dropped.length === 0 ? 'drops: none' : 'drops:', ...countRows(dropped, ORDINARY));
  const features = backend.features.filter(({ reason }) => view.verbose || reason !== '');
  if (features.length > 0) {
    const rows = features.map(({ name, wanted, inForce, reason }) => [`  ${name}`, wanted, inForce, reason]);
    lines.push('', 'features:', ...alignColumns([['  name', 'wanted', 'in force', ''], ...rows]));
  }
  return lines;
}

/** `tx segments: 10 of up to 1, 3 of up to 64`; what never occurred is left out. */
function histogramLines(histograms: readonly Histogram[]): string[] {
  return histograms
    .filter(({ count }) => count > 0)
    .map(({ name, buckets, count }) => {
      const parts: string[] = [];
      let below = 0;
      for (const bucket of [...buckets, { upTo: Number.POSITIVE_INFINITY, count }]) {
        const here = bucket.count - below;
        below = bucket.count;
        if (here > 0)
          parts.push(`${formatCount(here)} × ${Number.isFinite(bucket.upTo) ? `≤ ${bucket.upTo}` : 'more'}`);
      }
      return `  ${name.replaceAll('_', ' ')}: ${parts.join(', ')}`;
    });
}

/** IPv4 first, then by address. */
function bySubnet(a: PeerStatus, b: PeerStatus): number {
  const [one, other] = [parseAnyPrefix(a.subnet), parseAnyPrefix(b.subnet)];
  if (one === null || other === null) return Number(one === null) - Number(other === null);
  return comparePrefixes(one, other);
}

/** What has two families is shown as one; a daemon of an earlier version has no second. */
function both(name: string, nameV6: string | null | undefined): string {
  return nameV6 === null || nameV6 === undefined || nameV6 === name ? name : `${name} ${nameV6}`;
}

function isNamed(peers: readonly PeerStatus[], { names }: StatusView): boolean {
  return peers.some(({ publicIp }) => names?.has(publicIp));
}

function peerRow(peer: PeerStatus, now: number, { names, earlier }: StatusView, isNamedTable: boolean): string[] {
  const before = earlier?.status.backend?.peers.find(({ subnet }) => subnet === peer.subnet);
  const seconds = (earlier?.milliseconds ?? 0) / 1000;
  const cells =
    before === undefined || seconds <= 0
      ? [...countCells(peer.rxPackets, peer.rxBytes), ...countCells(peer.txPackets, peer.txBytes)]
      : [
          ...rateCells(peer.rxPackets, before.rxPackets, peer.rxBytes, before.rxBytes, seconds),
          ...rateCells(peer.txPackets, before.txPackets, peer.txBytes, before.txBytes, seconds),
        ];
  return [
    `  ${both(peer.subnet, peer.subnetV6)}`,
    both(peer.publicIp, peer.publicIpv6),
    ...(isNamedTable ? [names?.get(peer.publicIp) ?? ''] : []),
    ...cells,
    lastPacket(peer, now),
    ...sessionCells(peer, now),
  ];
}

function sessionTitles(peers: readonly PeerStatus[]): string[] {
  return peers.some(({ lastHandshake }) => lastHandshake !== undefined) ? ['handshake', 'endpoint'] : [];
}

function sessionCells({ lastHandshake, endpoint }: PeerStatus, now: number): string[] {
  if (lastHandshake === undefined) return [];
  const age = lastHandshake === null ? 'none yet' : `${formatDuration((now - lastHandshake) / 1000)} ago`;
  return [age, endpoint ?? '–'];
}

/** Where the kernel forwards, nobody counts by peer. */
function countCells(packets: number | null, bytes: number | null): string[] {
  return [packets === null ? '–' : `${formatCount(packets)} packets`, bytes === null ? '' : formatBytes(bytes)];
}

type Count = number | null;

/** Counters that went back are those of a daemon that has started again. */
function rateCells(packets: Count, packetsBefore: Count, bytes: Count, bytesBefore: Count, seconds: number): string[] {
  if (packets === null || bytes === null) return ['–', ''];
  const rate = (now: number, then: Count) => Math.max(0, Math.round((now - (then ?? 0)) / seconds));
  return [`${formatCount(rate(packets, packetsBefore))} packets/s`, formatBitRate(8 * rate(bytes, bytesBefore))];
}

function lastPacket({ rxPackets, lastReceived }: PeerStatus, now: number): string {
  if (rxPackets === null) return '–';
  return lastReceived === null ? 'never' : `${formatDuration((now - lastReceived) / 1000)} ago`;
}

/** Drops that there are on a host with which nothing is wrong, and what they are. */
const ORDINARY: ReadonlyMap<string, string> = new Map([
  ['tx_multicast_or_link_local', 'nothing is wrong: the kernel sends multicast of its own by every device'],
  ['tx_dropped', 'nothing is wrong with a few: the kernel sends multicast of its own by every device'],
]);

function countRows(
  entries: readonly (readonly [string, number])[],
  remarks: ReadonlyMap<string, string> = new Map(),
): string[] {
  return alignColumns(
    entries.map(([name, count]) => {
      const readable = name.replaceAll('_', ' ');
      const shown = name.endsWith('bytes') ? formatBytes(count) : formatCount(count);
      return [`  ${readable}`, shown, remarks.get(name) ?? ''];
    }),
  );
}
