/** The page of `tweed top`: what flows now, from two looks at the daemon's status. */
import type { PeerStatus } from '../backend/backend.js';
import type { DaemonStatus } from '../observe/status.js';
import { alignColumns, formatBitRate, formatCount, formatDuration } from './format.js';
import type { HostNames } from './host-names.js';

/** A status, and when it was taken. */
export interface Look {
  readonly status: DaemonStatus;
  /** Milliseconds by any clock that only goes forward. */
  readonly at: number;
}

export interface TopView {
  /** Null before there were two looks at one daemon. */
  readonly before: Look | null;
  readonly after: Look;
  readonly names?: HostNames;
  /** Null: as many lines as there are to show. */
  readonly size: { readonly columns: number; readonly rows: number } | null;
}

/** Packets and bits a second each way; null where nobody counts, or nothing is known yet. */
interface Rates {
  readonly rxPackets: number | null;
  readonly rxBits: number | null;
  readonly txPackets: number | null;
  readonly txBits: number | null;
}

type Counters = { readonly [Name in 'rxPackets' | 'rxBytes' | 'txPackets' | 'txBytes']: number | null };

/**
 * Rates of each peer, the busiest first, and what is dropped, by reason. Lines that do not fit the screen are left out and
 * counted. @param now milliseconds since the epoch
 */
export function renderTop({ before, after, names, size }: TopView, now: number): string {
  const { status } = after;
  const earlier = before !== null && isOneLife(before, after) ? before : null;
  const seconds = earlier === null ? 0 : (after.at - earlier.at) / 1000;
  const head = [headline(status, now), summary(status, earlier?.status ?? null, seconds), ''];
  const drops = dropLines(status, earlier?.status ?? null, seconds);
  const foot = size === null ? [] : ['', 'q quits'];
  const room = size === null ? Number.POSITIVE_INFINITY : size.rows - head.length - drops.length - 1 - foot.length;
  const peers = peerLines(status, earlier?.status ?? null, seconds, names, now);
  const lines = [...head, ...cutTo(peers, Math.max(room, 2)), '', ...drops, ...foot];
  if (size === null) return `${lines.join('\n')}\n`;
  // Without a last line break, which would move everything up by a line.
  return lines
    .slice(0, size.rows)
    .map((line) => line.slice(0, size.columns))
    .join('\n');
}

/** A daemon that was started again counts from 0. */
function isOneLife(before: Look, after: Look): boolean {
  const [a, b] = [before.status, after.status];
  return a.process === b.process && a.startedAt === b.startedAt && after.at > before.at;
}

function headline(status: DaemonStatus, now: number): string {
  const state = status.ready ? 'ready' : `${status.phase}: ${status.detail}`;
  const age = formatDuration((now - Date.parse(status.startedAt)) / 1000);
  const warnings = status.warnings.length === 0 ? '' : `, warnings: ${status.warnings.length} (tweed status)`;
  const where = status.backend === null ? '' : `, ${status.backend.device} by ${status.backend.type}`;
  return alignColumns([[`tweed ${status.version}, up ${age}, ${state}${where}${warnings}`]])[0] as string;
}

function summary(status: DaemonStatus, earlier: DaemonStatus | null, seconds: number): string {
  const totals = status.backend?.totals ?? {};
  const counters = (of: Readonly<Record<string, number>>): Counters => ({
    rxPackets: of.rx_packets ?? null,
    rxBytes: of.rx_bytes ?? null,
    txPackets: of.tx_packets ?? null,
    txBytes: of.tx_bytes ?? null,
  });
  const rates = ratesOf(counters(totals), counters(earlier?.backend?.totals ?? {}), seconds);
  const each = (packets: number | null, bits: number | null) => `${packetRate(packets)}, ${bitRate(bits)}`;
  return `received ${each(rates.rxPackets, rates.rxBits)}; sent ${each(rates.txPackets, rates.txBits)}`;
}

function peerLines(
  status: DaemonStatus,
  earlier: DaemonStatus | null,
  seconds: number,
  names: HostNames | undefined,
  now: number,
): string[] {
  const peers = status.backend?.peers ?? [];
  if (peers.length === 0) return ['no peers'];
  const known = new Map(earlier?.backend?.peers.map((peer) => [peer.subnet, peer]));
  const rows = peers
    .map((peer) => ({ peer, rates: ratesOf(peer, known.get(peer.subnet) ?? null, seconds) }))
    .sort((a, b) => busyness(b.rates) - busyness(a.rates) || (a.peer.subnet < b.peer.subnet ? -1 : 1));
  return alignColumns([
    ['peer', 'subnet', 'received', '', 'sent', '', 'last packet'],
    ...rows.map(({ peer, rates }) => [
      names?.get(peer.publicIp) ?? peer.publicIp,
      peer.subnet,
      packetRate(rates.rxPackets),
      bitRate(rates.rxBits),
      packetRate(rates.txPackets),
      bitRate(rates.txBits),
      lastPacket(peer, now),
    ]),
  ]);
}

function busyness({ rxBits, txBits }: Rates): number {
  return (rxBits ?? 0) + (txBits ?? 0);
}

function lastPacket({ lastReceived, rxPackets }: PeerStatus, now: number): string {
  if (rxPackets === null) return '–';
  return lastReceived === null ? 'never' : `${formatDuration((now - lastReceived) / 1000)} ago`;
}

function ratesOf(after: Counters, before: Counters | null, seconds: number): Rates {
  const rate = (name: keyof Counters, factor: number) => {
    const [from, to] = [before?.[name] ?? null, after[name]];
    // A peer that left and came again, or a device that was made anew, counts from 0.
    return from === null || to === null || seconds <= 0 || to < from ? null : ((to - from) * factor) / seconds;
  };
  return {
    rxPackets: rate('rxPackets', 1),
    rxBits: rate('rxBytes', 8),
    txPackets: rate('txPackets', 1),
    txBits: rate('txBytes', 8),
  };
}

function dropLines(status: DaemonStatus, earlier: DaemonStatus | null, seconds: number): string[] {
  const counted = Object.entries(status.backend?.drops ?? {}).filter(([, count]) => count > 0);
  if (counted.length === 0) return ['drops: none'];
  const rows = counted
    .map(([reason, total]) => {
      const from = earlier?.backend?.drops[reason];
      return {
        reason,
        total,
        rate: from === undefined || seconds <= 0 || total < from ? null : (total - from) / seconds,
      };
    })
    .sort((a, b) => (b.rate ?? 0) - (a.rate ?? 0) || b.total - a.total);
  return alignColumns([
    ['drops', 'now', 'since the start'],
    ...rows.map(({ reason, total, rate }) => [reason.replaceAll('_', ' '), packetRate(rate), formatCount(total)]),
  ]);
}

/** As many lines as there is room for, of which the last one says how many are missing. */
function cutTo(lines: readonly string[], room: number): readonly string[] {
  if (lines.length <= room) return lines;
  const shown = lines.slice(0, room - 1);
  return [...shown, `… and ${lines.length - shown.length} more`];
}

function packetRate(rate: number | null): string {
  return rate === null ? '–' : `${formatCount(Math.round(rate))} pkt/s`;
}

function bitRate(rate: number | null): string {
  return rate === null ? '–' : formatBitRate(Math.round(rate));
}
