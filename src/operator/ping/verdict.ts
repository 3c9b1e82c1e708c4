import type { Echo } from './echo.js';
import type { Knock } from './knock.js';
import type { KernelRoute } from './target.js';

/** One half of the way: small packets, and packets as large as they may be, none of which may be fragmented. */
export interface Half {
  readonly small: Echo;
  /** Null where the full size is not known. */
  readonly full: Echo | null;
  /** The largest packet that came back, in bytes with its IP header; null when none did, or it was not looked for. */
  readonly largest: number | null;
}

/** Everything that the verdict is made from. */
export interface Observations {
  readonly peer: { readonly subnet: string; readonly publicIp: string };
  readonly device: string;
  /** The interface of the underlay; empty where it is not known. */
  readonly underlayDevice: string;
  /** UDP port of the overlay's datagrams; null where there are none. */
  readonly port: number | null;
  readonly route: KernelRoute | null;
  readonly underlay: Half;
  readonly overlay: Half;
  /** What became of a datagram to the peer's port; null: nobody knocked, since the overlay answered. */
  readonly knock: Knock | null;
  /** What the daemon counted for this peer while the overlay was probed; null where the kernel forwards and nobody does. */
  readonly counted: { readonly txPackets: number; readonly rxPackets: number } | null;
  /** Is there a WireGuard session with the peer? Null where there are none at all. */
  readonly hasSession: boolean | null;
  /** Drops that grew meanwhile, by reason. */
  readonly drops: Readonly<Record<string, number>>;
}

export interface Verdict {
  /** Small and full-size packets came back, every one of them. */
  readonly ok: boolean;
  /** Which half fails, and what it means. */
  readonly verdict: string;
  /** The command that mends it; empty where there is none. */
  readonly fix: string;
}

/** Which half fails, and where to look. */
export function judge(seen: Observations): Verdict {
  return seen.overlay.small.received > 0 ? judgeSizes(seen) : judgeSilence(seen);
}

/** Small packets pass the overlay. Do large ones? */
function judgeSizes(seen: Observations): Verdict {
  const { peer, underlay, overlay } = seen;
  const { small, full } = overlay;
  const silent =
    underlay.small.received > 0
      ? ''
      : `; ${peer.publicIp} itself does not answer ICMP, which the overlay does not need`;
  if (full?.unable) {
    return {
      ok: false,
      verdict: `small packets pass the overlay; whether full-size ones do could not be tried, for this ping has no option -M${silent}`,
      fix: 'apt-get install iputils-ping',
    };
  }
  if (full !== null && full.received === 0) return mtuHole(seen, full.bytes);
  const lost = [small, full].some((echo) => echo !== null && echo.received < echo.sent);
  if (lost) return { ok: false, verdict: `the overlay works, with losses${silent}`, fix: '' };
  const size = full === null ? '' : `, also for full-size packets of ${full.bytes} bytes`;
  return { ok: true, verdict: `the overlay works${size}${silent}`, fix: '' };
}

/** The classic fault: pings pass, and every transfer hangs. */
function mtuHole({ peer, underlay, overlay, underlayDevice, device }: Observations, full: number): Verdict {
  const largest = overlay.largest ?? overlay.small.bytes;
  const lost = `small packets pass the overlay, but none of ${full} bytes, which its MTU allows: ${largest} is the largest that does`;
  const carried = underlayCarries(underlay, full, largest);
  if (carried === null) {
    return {
      ok: false,
      verdict: `${lost}; the underlay carries full-size packets to ${peer.publicIp}, so look at what the peer does with large ones: its device's MTU, and firewalls that drop large UDP datagrams`,
      fix: `tweed doctor (on ${peer.publicIp})`,
    };
  }
  const name = underlayDevice === '' ? device : underlayDevice;
  const whole = underlay.full?.bytes;
  const says = whole === undefined ? '' : `, where the MTU of ${name} says ${whole}`;
  return {
    ok: false,
    verdict: `${lost}; the path to ${peer.publicIp} carries ${carried} bytes${says}. Lower the interface's MTU on every host: tweed follows at once, containers when they are made anew`,
    fix: `ip link set dev ${name} mtu ${carried}`,
  };
}

/** What the path carries, in bytes; null when it carries all that the interface's MTU promises. */
function underlayCarries({ small, full, largest }: Half, overlayFull: number, overlayLargest: number): number | null {
  if (full === null) return null;
  if (small.received > 0) return largest === full.bytes ? null : largest;
  // it answers no ICMP itself: what the overlay carries and what is put around it
  return overlayLargest + full.bytes - overlayFull;
}

function judgeSilence(seen: Observations): Verdict {
  const { peer, device, port, route, underlay, overlay, counted, drops } = seen;
  const fails = (verdict: string, fix = '') => ({ ok: false, verdict, fix });
  const { small } = overlay;
  if (route === null) return fails('this host has no route there', 'tweed status; ip route');
  const isDirect = route.gateway === peer.publicIp; // host-gw, and vxlan with DirectRouting
  if (device !== '' && route.device !== device && !isDirect) {
    return fails(
      `this host would send it by ${route.device} instead of ${device}; another route is more specific`,
      `ip route get ${small.address}`,
    );
  }
  // packets that wait for a session in vain are dropped, too: that says less
  if (seen.hasSession === false && underlay.small.received > 0) return { ok: false, ...silenceOf(seen, port) };
  const dropped = Object.keys(drops);
  if ((counted?.txPackets ?? 0) === 0 && dropped.length > 0) {
    return fails(`this host dropped the packets: ${dropped.join(', ')}`, 'tweed status');
  }
  const neverLeft = counted?.txPackets === 0 || small.refusedHere;
  if (small.error !== '' && neverLeft) {
    return fails(`this host itself refuses the packets (${small.error})`, 'tweed doctor');
  }
  if (underlay.small.received === 0) {
    const said = underlay.small.error === '' ? '' : ` (${underlay.small.error})`;
    return fails(
      `the underlay fails: ${peer.publicIp} does not answer${said}; the host is down, or the network between is`,
      `ip route get ${peer.publicIp}`,
    );
  }
  if ((counted?.rxPackets ?? 0) > 0) {
    return fails(
      `the overlay reaches the peer and packets come back, but not the answer: ${small.address} may not exist or be filtered behind the peer`,
    );
  }
  return { ok: false, ...silenceOf(seen, port) };
}

function silenceOf({ peer, knock, counted, hasSession }: Observations, port: number | null): Omit<Verdict, 'ok'> {
  const there = `(on ${peer.publicIp})`;
  const lead = 'the overlay fails though the underlay works';
  switch (knock) {
    case 'refused':
      return {
        verdict: `${lead}: nothing listens at UDP port ${port} of ${peer.publicIp}, so its daemon is down; or its firewall answers that`,
        fix: `systemctl status tweed; tweed doctor ${there}`,
      };
    case 'rejected':
      return {
        verdict: `${lead}: a firewall rejects UDP port ${port} of ${peer.publicIp}`,
        fix: `tweed doctor ${there}`,
      };
    default: {
      const silence = counted === null ? 'no answer came' : 'nothing came back from the peer';
      const closed = port === null ? '' : `UDP port ${port} is dropped by a firewall between, or `;
      if (hasSession === false) {
        return {
          verdict: `${lead}: the peer answers no WireGuard handshake; ${closed}the peer does not know this host's key, or has another preshared key`,
          fix: `tweed doctor; tweed status ${there}`,
        };
      }
      return {
        verdict: `${lead}: ${silence}; ${closed}the peer does not know this host`,
        fix: `tweed doctor; tweed status ${there}`,
      };
    }
  }
}
