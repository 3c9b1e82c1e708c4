import { lookup } from 'node:dns/promises';
import os from 'node:os';
import type { PeerStatus } from '../backend/backend.js';
import {
  type AnyPrefix,
  formatAddress,
  formatAnyPrefix,
  parseAddress,
  parseAnyPrefix,
  prefixContains,
  sameAnyPrefix,
} from '../base/address.js';
import { TweedError } from '../base/errors.js';
import { exec } from '../base/exec.js';
import type { DaemonStatus } from '../observe/status.js';
import { ipTool, type RouteJson } from '../routes/ip.js';

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

/** A host's name to its address, the IPv4 one if it has one; addresses and subnets stay as they are. @throws TweedError */
export async function resolveTarget(text: string): Promise<string> {
  if (/^[\d./]+$/.test(text) || /^[\da-fA-F.]*:[\da-fA-F.:/]*$/.test(text)) return text;
  try {
    return (await lookup(text, { family: 4 }).catch(() => lookup(text, { family: 6 }))).address;
  } catch (error) {
    throw new TweedError('NO_SUCH_HOST', `${text} has no address; give an address, a subnet or another name`, {
      cause: error,
    });
  }
}

/** The outcome of a few ICMP echo requests. */
export interface Echo {
  readonly address: string;
  readonly sent: number;
  readonly received: number;
  /** Milliseconds; null when nothing came back. */
  readonly averageMs: number | null;
  /** What a router or the kernel said instead of an answer. */
  readonly error: string;
  /** This host's own firewall refused it. */
  readonly refusedHere: boolean;
}

/** By the `ping` program. @throws ExecError when it is not installed */
export async function echo(address: string, count: number): Promise<Echo> {
  const { stdout, stderr } = await exec(['ping', '-n', '-c', String(count), '-i', '0.2', '-W', '1', address], {
    tolerate: true,
    timeoutMs: 10_000 + count * 1200,
  });
  return parseEcho(address, count, `${stdout}\n${stderr}`);
}

/** Reads what ping of iputils (or busybox) prints. */
export function parseEcho(
  address: string,
  count: number,
  output: string,
  isOwn: (address: string) => boolean = isOwnAddress,
): Echo {
  const [, sent, received] = /(\d+) packets transmitted, (\d+) (?:packets )?received/.exec(output) ?? [];
  const [, average] = /= [\d.]+\/([\d.]+)\//.exec(output) ?? [];
  const [, from = '', answer] = /^From (\S+?):? icmp_seq=\d+ (.+)$/m.exec(output) ?? [];
  const [, complaint] = /^ping: (.+)$/m.exec(output) ?? [];
  const refusal = /prohibited|filtered|port unreachable/i.test(answer ?? '') && isOwn(from);
  return {
    address,
    sent: Number(sent ?? count),
    received: Number(received ?? 0),
    averageMs: average === undefined ? null : Number(average),
    error: (answer ?? complaint ?? '').trim(),
    refusedHere: refusal || (complaint?.includes('not permitted') ?? false),
  };
}

function isOwnAddress(text: string): boolean {
  return Object.values(os.networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === text));
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
export function endOf(peer: PeerStatus, backend: string): string {
  const [half] = halvesOf(peer);
  return half === undefined ? peer.subnet : endOfHalf(half, backend);
}

function endOfHalf({ address }: AnyPrefix, backend: string): string {
  if (backend !== 'host-gw') return formatAddress(address);
  return formatAddress(typeof address === 'number' ? address + 1 : address + 1n);
}

function halvesOf({ subnet, subnetV6 }: PeerStatus): AnyPrefix[] {
  return halves(subnet, subnetV6);
}

/** What has no IPv4 half is named twice; a daemon of an earlier version names one only. */
function halves(...texts: readonly (string | null | undefined)[]): AnyPrefix[] {
  return [...new Set(texts)].flatMap((text) => parseAnyPrefix(text ?? '') ?? []);
}
