import type { PeerStatus } from '../../backend/backend.js';
import type { DaemonStatus } from '../../observe/status.js';
import { echo, packetBytes, SMALL_BYTES } from './echo.js';
import { knock } from './knock.js';
import { largestPassing } from './path-mtu.js';
import { endOf, routeTo } from './target.js';
import { type Half, judge, type Observations, type Verdict } from './verdict.js';

/** What `tweed ping` found out about one peer. */
export interface PingReport extends Observations, Verdict {}

/** How a way is probed. */
export interface Probing {
  /** Probes of each half and size. */
  readonly count: number;
  /** Between two of them. */
  readonly intervalMs: number;
  /** Bytes of payload in place of as many as the MTU allows; null for those. */
  readonly payload: number | null;
}

/**
 * Probes the way to a peer: the kernel's route, its public address, then through the overlay, each with small and with
 * full-size packets, and the daemon's counters before and after. Where only small ones pass, the largest that does is found.
 *
 * @param address inside the peer's subnet; null for the peer's own end
 */
export async function pingPeer(
  fetch: () => Promise<DaemonStatus>,
  peer: PeerStatus,
  address: string | null,
  probing: Probing,
): Promise<PingReport> {
  const before = await fetch();
  const { type = '', device = '', mtu } = before.backend ?? {};
  const destination = address ?? endOf(peer, type);
  const publicIp = underlayOf(peer, destination, type);
  const [route, underlay] = await Promise.all([
    routeTo(destination),
    probeHalf(publicIp, before.underlay?.mtu, probing),
  ]);
  const overlay = await probeHalf(destination, mtu, probing, hintFrom(underlay, mtu));
  const after = await fetch();
  const port = before.port ?? null;
  const silent = overlay.small.received === 0 && port !== null && underlay.small.received > 0;
  const observations: Observations = {
    peer: { subnet: peer.subnet, publicIp },
    device,
    underlayDevice: before.underlay?.interface ?? '',
    port,
    route,
    underlay,
    overlay,
    knock: silent ? await knock(publicIp, port) : null,
    counted: difference(before, after, peer.subnet),
    hasSession: sessionWith(after, peer.subnet),
    drops: grownDrops(before, after),
  };
  return { ...observations, ...judge(observations) };
}

/** Nothing is sent or accepted under older keys: REJECT_AFTER_TIME of WireGuard. */
const SESSION_MS = 180_000;

function sessionWith({ backend }: DaemonStatus, subnet: string): boolean | null {
  const { lastHandshake } = backend?.peers.find((one) => one.subnet === subnet) ?? {};
  if (lastHandshake === undefined) return null;
  return lastHandshake !== null && Date.now() - lastHandshake < SESSION_MS;
}

/**
 * Small packets, then full-size ones; where only the small ones pass, the largest that does is looked for.
 *
 * @param mtu what a packet there may have at most
 * @param hint what the largest may be
 */
export async function probeHalf(
  address: string,
  mtu: number | undefined,
  { count, intervalMs, payload }: Probing,
  hint: number | null = null,
): Promise<Half> {
  const small = await echo(address, SMALL_BYTES, count, intervalMs);
  const size = payload === null ? mtu : packetBytes(address, payload);
  const full = size !== undefined && size > SMALL_BYTES ? await echo(address, size, count, intervalMs) : null;
  if (full === null || full.unable || small.received === 0) return { small, full, largest: null };
  if (full.received > 0) return { small, full, largest: full.bytes };
  const passes = async (size: number) => (await echo(address, size, 2)).received > 0;
  return { small, full, largest: await largestPassing(SMALL_BYTES, full.bytes, full.announcedMtu ?? hint, passes) };
}

/** What the overlay should carry, where the underlay carries less than it should. */
function hintFrom({ largest, full }: Half, overlayMtu: number | undefined): number | null {
  if (largest === null || full === null || overlayMtu === undefined || largest === full.bytes) return null;
  return largest - (full.bytes - overlayMtu);
}

/** Where the packets travel: `udp` takes IPv4 where there is one, the kernel's backends the family that the packet has. */
function underlayOf({ publicIp, publicIpv6 }: PeerStatus, destination: string, type: string): string {
  return destination.includes(':') && type !== 'udp' ? (publicIpv6 ?? publicIp) : publicIp;
}

function difference(before: DaemonStatus, after: DaemonStatus, subnet: string): Observations['counted'] {
  const of = (status: DaemonStatus) => status.backend?.peers.find((peer) => peer.subnet === subnet);
  const [old, now] = [of(before), of(after)];
  if (now?.rxPackets === null) return null;
  return {
    txPackets: (now?.txPackets ?? 0) - (old?.txPackets ?? 0),
    rxPackets: (now?.rxPackets ?? 0) - (old?.rxPackets ?? 0),
  };
}

function grownDrops(before: DaemonStatus, after: DaemonStatus): Record<string, number> {
  const old = before.backend?.drops ?? {};
  const grown = Object.entries(after.backend?.drops ?? {}).map(([reason, count]) => [
    reason,
    count - (old[reason] ?? 0),
  ]);
  return Object.fromEntries(grown.filter(([, count]) => (count as number) > 0));
}

/**
 * Every peer's report, in the order of the peers.
 *
 * @param atOnce how many are probed side by side; the daemon's drops are then those of all of them
 */
export async function* pingPeers(
  fetch: () => Promise<DaemonStatus>,
  probing: Probing,
  atOnce: number,
): AsyncGenerator<PingReport> {
  const peers = (await fetch()).backend?.peers ?? [];
  for (let first = 0; first < peers.length; first += atOnce) {
    yield* await Promise.all(peers.slice(first, first + atOnce).map((peer) => pingPeer(fetch, peer, null, probing)));
  }
}
