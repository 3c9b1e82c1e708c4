import { plural } from '../../base/plural.js';
import { alignColumns } from '../format.js';
import type { HostNames } from '../host-names.js';
import type { Echo } from './echo.js';
import type { PingReport } from './ping.js';
import type { Half } from './verdict.js';

/** The report as people read it: a line for each probe, a summary of each size, the verdict and what mends it. */
export function renderPing(report: PingReport, names: HostNames = new Map()): string {
  const { peer, device, route, underlay, overlay, counted, drops, verdict, fix } = report;
  const way = route === null ? 'no route' : `${route.device}${route.gateway === null ? '' : ` via ${route.gateway}`}`;
  const dropped = Object.entries(drops).map(([reason, count]) => `${count} ${reason}`);
  const seen =
    counted === null
      ? 'not by peer, since the kernel forwards'
      : `${counted.txPackets} packets to the peer, ${counted.rxPackets} from it`;
  const name = names.get(peer.publicIp);
  return [
    `peer      ${peer.subnet} at ${peer.publicIp}${name === undefined ? '' : ` (${name})`}`,
    `route     ${overlay.small.address} by ${way}${device === '' ? '' : `, overlay device ${device}`}`,
    ...halfLines('underlay', underlay),
    ...halfLines('overlay ', overlay),
    `counted   ${seen}${dropped.length > 0 ? `; dropped: ${dropped.join(', ')}` : ''}`,
    verdict,
    ...(fix === '' ? [] : [`        mend it: ${fix}`]),
    '',
  ].join('\n');
}

/** Where there is one half only: a container of this host's own. */
export function renderHalf(title: string, half: Half): string {
  return `${[title, ...halfLines('bridge  ', half)].join('\n')}\n`;
}

function halfLines(name: string, { small, full, largest }: Half): string[] {
  const found =
    full !== null && largest !== null && largest < full.bytes ? `; the largest that passes has ${largest}` : '';
  return [...echoLines(name, small, ''), ...(full === null ? [] : echoLines(name, full, found))];
}

function echoLines(name: string, echo: Echo, more: string): string[] {
  const { address, bytes, probes, error } = echo;
  const lines = probes.map(({ number, milliseconds, ttl }) =>
    ttl === null
      ? `          ${bytes} bytes, ${number}: no answer`
      : `          ${bytes} bytes, ${number}: ${milliseconds ?? '?'} ms, TTL ${ttl}`,
  );
  return [`${name}  ${address}, ${bytes} bytes: ${summary(echo)}${error === '' ? '' : ` (${error})`}${more}`, ...lines];
}

/** `3 of 3 came back, 0 % lost, 0.2/0.3/0.4 ms (least/average/most)` */
export function summary({ sent, received, minimumMs, averageMs, maximumMs }: Echo): string {
  const lost = `${received} of ${sent} came back, ${Math.round((1 - received / sent) * 100)} % lost`;
  return averageMs === null ? lost : `${lost}, ${minimumMs}/${averageMs}/${maximumMs} ms (least/average/most)`;
}

/** One line for each peer: both halves, small and full-size. */
export function renderMatrix(reports: readonly PingReport[], names: HostNames = new Map()): string {
  const rows = reports.map(({ peer, underlay, overlay, ok }) => [
    ok ? 'ok' : 'FAIL',
    peer.subnet,
    peer.publicIp,
    names.get(peer.publicIp) ?? '',
    cell(underlay.small),
    cell(underlay.full),
    cell(overlay.small),
    cell(overlay.full),
    overlay.small.averageMs === null ? '–' : `${overlay.small.averageMs} ms`,
  ]);
  const header = [
    '',
    'subnet',
    'public address',
    'name',
    'underlay',
    'full size',
    'overlay',
    'full size',
    'round trip',
  ];
  const failed = reports.filter(({ ok }) => !ok);
  const reasons = failed.flatMap(({ peer, verdict, fix }) => [
    `${peer.publicIp}: ${verdict}`,
    ...(fix === '' ? [] : [`        mend it: ${fix}`]),
  ]);
  const end =
    failed.length === 0
      ? `${reports.length === 1 ? 'the one peer answers' : `all ${reports.length} peers answer`}, by both halves and at full size`
      : `${failed.length} of ${plural(reports.length, 'peer')} ${failed.length === 1 ? 'fails' : 'fail'}`;
  return `${[...alignColumns([header, ...rows]), ...reasons, reports.length === 0 ? 'there are no peers' : end].join('\n')}\n`;
}

function cell(echo: Echo | null): string {
  return echo === null || echo.unable ? 'untried' : `${echo.received}/${echo.sent}`;
}
