import type { PeerStatus } from '../backend/backend.js';
import type { DaemonStatus } from '../observe/status.js';
import { type Echo, echo, endOf, type KernelRoute, routeTo } from './probe.js';

/** What `tweed ping` found out about one peer. */
export interface PingReport {
  readonly peer: { readonly subnet: string; readonly publicIp: string };
  readonly device: string;
  readonly route: KernelRoute | null;
  readonly underlay: Echo;
  readonly overlay: Echo;
  /** What the daemon counted for this peer while the overlay was probed; null where the kernel forwards and nobody does. */
  readonly counted: { readonly txPackets: number; readonly rxPackets: number } | null;
  /** Drops that grew meanwhile, by reason. */
  readonly drops: Readonly<Record<string, number>>;
  readonly ok: boolean;
  readonly verdict: string;
}

/** Everything that the verdict is made from. */
export type Observations = Omit<PingReport, 'ok' | 'verdict'>;

/**
 * Probes the way to a peer: the kernel's route, its public address, then through the overlay, with the daemon's counters
 * before and after.
 *
 * @param address inside the peer's subnet; null for the peer's own end
 */
export async function pingPeer(
  fetch: () => Promise<DaemonStatus>,
  peer: PeerStatus,
  address: string | null,
  count: number,
): Promise<PingReport> {
  const before = await fetch();
  const { type = '', device = '' } = before.backend ?? {};
  const destination = address ?? endOf(peer, type);
  const publicIp = underlayOf(peer, destination, type);
  const [route, underlay] = await Promise.all([routeTo(destination), echo(publicIp, count)]);
  const overlay = await echo(destination, count);
  const after = await fetch();
  const observations: Observations = {
    peer: { subnet: peer.subnet, publicIp },
    device,
    route,
    underlay,
    overlay,
    counted: difference(before, after, peer.subnet),
    drops: grownDrops(before, after),
  };
  return { ...observations, ...judge(observations) };
}

/** Where the packets travel: `udp` takes IPv4 where there is one, the kernel's backends the family that the packet has. */
function underlayOf({ publicIp, publicIpv6 }: PeerStatus, destination: string, type: string): string {
  return destination.includes(':') && type !== 'udp' ? (publicIpv6 ?? publicIp) : publicIp;
}

function difference(before: DaemonStatus, after: DaemonStatus, subnet: string): PingReport['counted'] {
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

type Verdict = Pick<PingReport, 'ok' | 'verdict'>;

/** Which half fails, and where to look. */
export function judge({ peer, device, route, underlay, overlay, counted, drops }: Observations): Verdict {
  const fails = (verdict: string) => ({ ok: false, verdict });
  const reached = underlay.received > 0;
  if (overlay.received > 0) {
    const lossy = overlay.received < overlay.sent ? ', with losses' : '';
    const silent = reached ? '' : `; ${peer.publicIp} itself does not answer ICMP, which the overlay does not need`;
    return { ok: overlay.received === overlay.sent, verdict: `the overlay works${lossy}${silent}` };
  }
  if (route === null) return fails('this host has no route there; see "tweed status" and "ip route"');
  const isDirect = route.gateway === peer.publicIp; // host-gw, and vxlan with DirectRouting
  if (device !== '' && route.device !== device && !isDirect) {
    return fails(
      `this host would send it by ${route.device} instead of ${device}; another route is more specific: ip route get ${overlay.address}`,
    );
  }
  const dropped = Object.keys(drops);
  if ((counted?.txPackets ?? 0) === 0 && dropped.length > 0) {
    return fails(`this host dropped the packets: ${dropped.join(', ')}`);
  }
  const neverLeft = counted?.txPackets === 0 || overlay.refusedHere;
  if (overlay.error !== '' && neverLeft) {
    return fails(`this host itself refuses the packets (${overlay.error}); "tweed doctor" looks at its firewall`);
  }
  if (!reached) {
    return fails(
      `the underlay fails: ${peer.publicIp} does not answer${underlay.error === '' ? '' : ` (${underlay.error})`}; the host is down, or the network between is`,
    );
  }
  if ((counted?.rxPackets ?? 0) > 0) {
    return fails(
      `the overlay reaches the peer and packets come back, but not the answer: ${overlay.address} may not exist or be filtered behind the peer`,
    );
  }
  const silence = counted === null ? 'no answer came' : 'nothing came back from the peer';
  return fails(
    `the overlay fails though the underlay works: ${silence}; is its daemon running, its UDP port open in every firewall between, and this host among its peers?`,
  );
}

/** The report as people read it. */
export function renderPing({ peer, device, route, underlay, overlay, counted, drops, verdict }: PingReport): string {
  const way = route === null ? 'no route' : `${route.device}${route.gateway === null ? '' : ` via ${route.gateway}`}`;
  const dropped = Object.entries(drops).map(([reason, count]) => `${count} ${reason}`);
  const seen =
    counted === null
      ? 'not by peer, since the kernel forwards'
      : `${counted.txPackets} packets to the peer, ${counted.rxPackets} from it`;
  return [
    `peer      ${peer.subnet} at ${peer.publicIp}`,
    `route     ${overlay.address} by ${way}${device === '' ? '' : `, overlay device ${device}`}`,
    `underlay  ${echoLine(underlay)}`,
    `overlay   ${echoLine(overlay)}`,
    `counted   ${seen}${dropped.length > 0 ? `; dropped: ${dropped.join(', ')}` : ''}`,
    verdict,
    '',
  ].join('\n');
}

function echoLine({ address, sent, received, averageMs, error }: Echo): string {
  const time = averageMs === null ? '' : `, ${averageMs} ms on average`;
  return `${address}: ${received} of ${sent} came back${time}${error === '' ? '' : ` (${error})`}`;
}
