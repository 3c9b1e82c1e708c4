import type { PeerStatus } from '../../backend/backend.js';
import {
  type AnyPrefix,
  formatAddress,
  formatAnyPrefix,
  parseAddress,
  parseAnyPrefix,
  prefixContains,
  sameAnyPrefix,
} from '../../base/address.js';
import { TweedError } from '../../base/errors.js';
import { ExecError, exec } from '../../base/exec.js';
import type { DaemonStatus } from '../../observe/status.js';
import { ipTool, type RouteJson } from '../../routes/ip.js';

/** What `tweed ping` was asked about, found among the daemon's peers. */
export type Target =
  | {
      readonly kind: 'peer';
      readonly peer: PeerStatus /** In the peer's subnet, or null. */;
      readonly overlayAddress: string | null;
    }
  | { readonly kind: 'own'; readonly subnet: string }
  | { readonly kind: 'unknown'; readonly reason: string };

/** Finds the peer behind an overlay address, a subnet, or a public address, of either family. */
export function findTarget(text: string, status: DaemonStatus): Target {
  const peers = status.backend?.peers ?? [];
  const type = status.backend?.type ?? '';
  const own = status.lease === null ? [] : halves(status.lease.subnet, status.lease.subnetV6);
  const found = (peer: PeerStatus, half: AnyPrefix | undefined): Target => {
    const isName = half === undefined || formatAnyPrefix(half) === peer.subnet;
    return { kind: 'peer', peer, overlayAddress: isName ? null : endOfHalf(half, type) };
  };
  const subnet = text.includes('/') ? parseAnyPrefix(text) : null;
  if (subnet !== null) {
    for (const peer of peers) {
      const half = halvesOf(peer).find((one) => sameAnyPrefix(one, subnet));
      if (half !== undefined) return found(peer, half);
    }
    if (own.some((one) => sameAnyPrefix(one, subnet))) return { kind: 'own', subnet: text };
    return { kind: 'unknown', reason: `no host has the subnet ${text}` };
  }
  const address = parseAddress(text);
  if (address === null) return { kind: 'unknown', reason: `${text} is neither an address nor a subnet` };
  const named = formatAddress(address);
  const host = peers.find((each) => each.publicIp === named || each.publicIpv6 === named);
  if (host !== undefined) return found(host, undefined);
  const mine = own.find((one) => prefixContains(one, address));
  if (mine !== undefined) return { kind: 'own', subnet: formatAnyPrefix(mine) };
  const behind = peers
    .flatMap((peer) => halvesOf(peer).map((half) => ({ peer, half })))
    .filter(({ half }) => prefixContains(half, address))
    .sort((a, b) => b.half.length - a.half.length)[0]; // the longest prefix wins, as when forwarding
  if (behind !== undefined) return { kind: 'peer', peer: behind.peer, overlayAddress: named };
  const networks = halves(status.network, status.networkV6);
  return {
    kind: 'unknown',
    reason: networks.some((network) => prefixContains(network, address))
      ? `no host has leased the subnet of ${text}: packets there are answered with "network unreachable"`
      : `${text} is no peer's public address and not in the overlay network ${networks.map(formatAnyPrefix).join(', ')}`,
  };
}

/** What a name server may take; behind it the library tries others, for longer than anybody waits. */
const NAME_PATIENCE_MS = 3000;

/** A host's name to its address; addresses and subnets stay as they are. @throws TweedError */
export async function resolveTarget(text: string, run: typeof exec = exec): Promise<string> {
  if (/^[\d./]+$/.test(text) || /^[\da-fA-F.]*:[\da-fA-F.:/]*$/.test(text)) return text;
  const unknown = (why: string) =>
    new TweedError('NO_SUCH_HOST', `${text} ${why}; give an address, a subnet or another name`);
  if (!/^\w[\w.-]*$/.test(text)) throw unknown('is no name of a host');
  try {
    // as a program of its own: a lookup of this process's would keep it from ending
    const { stdout } = await run(['getent', 'ahosts', text], { tolerate: true, timeoutMs: NAME_PATIENCE_MS });
    const addresses = stdout.split('\n').flatMap((line) => /^(\S+)\s/.exec(line)?.[1] ?? []);
    const address = addresses.find((one) => !one.includes(':')) ?? addresses[0];
    if (address !== undefined) return address;
  } catch (error) {
    if (!(error instanceof ExecError) || error.result === null) throw error;
    throw unknown(`was not resolved within ${NAME_PATIENCE_MS / 1000} s`);
  }
  throw unknown('has no address');
}

/** The kernel's way to an address: which device, and by which gateway. */
export interface KernelRoute {
  readonly device: string;
  readonly gateway: string | null;
}

/** Null when there is none. */
export async function routeTo(address: string): Promise<KernelRoute | null> {
  try {
    const [route] = await ipTool().json<RouteJson[]>(address.includes(':') ? '-6' : '-4', 'route', 'get', address);
    return route?.dev === undefined ? null : { device: route.dev, gateway: route.gateway ?? null };
  } catch {
    return null;
  }
}

/** An address at the peer's end that answers by itself: its device has the subnet's first one, its bridge the second. */
export function endOf(peer: Halves, backend: string): string {
  const [half] = halvesOf(peer);
  return half === undefined ? peer.subnet : endOfHalf(half, backend);
}

function endOfHalf({ address }: AnyPrefix, backend: string): string {
  if (backend !== 'host-gw') return formatAddress(address);
  return formatAddress(typeof address === 'number' ? address + 1 : address + 1n);
}

type Halves = Pick<PeerStatus, 'subnet'> & Partial<Pick<PeerStatus, 'subnetV6'>>;

function halvesOf({ subnet, subnetV6 }: Halves): AnyPrefix[] {
  return halves(subnet, subnetV6);
}

/** What has no IPv4 half is named twice; a daemon of an earlier version names one only. */
function halves(...texts: readonly (string | null | undefined)[]): AnyPrefix[] {
  return [...new Set(texts)].flatMap((text) => parseAnyPrefix(text ?? '') ?? []);
}
