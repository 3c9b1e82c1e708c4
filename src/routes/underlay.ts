import { TweedError } from '../base/errors.js';
import { ExecError } from '../base/exec.js';
import { formatIpv4, parseIpv4 } from '../base/ipv4.js';
import { type AddressJson, type IpTool, ipTool, type LinkJson, type RouteJson } from './ip.js';

/** The host's interface that carries the overlay's datagrams. */
export interface Underlay {
  readonly name: string;
  readonly index: number;
  /** Its address, host order. Sockets bind to it. 0 when it has none. */
  readonly address: number;
  /** Length of the prefix that the address was given with: what is on its link. */
  readonly prefixLength: number;
  /** The same by IPv6; null when it has none, or none was asked for. */
  readonly ipv6: UnderlayAddressV6 | null;
  readonly mtu: number;
}

/** An IPv6 address of the interface, and what is on its link. */
export interface UnderlayAddressV6 {
  readonly address: bigint;
  readonly prefixLength: number;
}

/** What the operator said about the interface. Empty lists and empty texts: nothing. */
export interface UnderlayOptions {
  /** `--iface`, in order: names or IPv4 addresses. */
  readonly interfaces: readonly string[];
  /** `--iface-regex`, in order. */
  readonly patterns: readonly string[];
  /** `--iface-can-reach`: an IPv4 address. */
  readonly canReach: string;
  /** `--public-ip`: an IPv4 address. */
  readonly publicIp: string;
}

/** What the kernel knows. */
export interface UnderlayFacts {
  /** Every link, in the order of the kernel (by index). */
  readonly links: readonly LinkJson[];
  /** The IPv4 default routes of the main table, the preferred one first. */
  readonly defaultRoutes: readonly RouteJson[];
  /** The answer of `ip route get` for `canReach`; a text says why there is none. */
  readonly reach: RouteJson | string | null;
}

export interface UnderlayChoice {
  readonly underlay: Underlay;
  /** What peers send to, host order. 0 for none. */
  readonly publicIp: number;
  /** The same by IPv6; null for none. */
  readonly publicIpv6: bigint | null;
  /** Why this interface, for one log line. */
  readonly reason: string;
}

export class UnderlayError extends TweedError {
  constructor(detail: string) {
    super('UNDERLAY_NOT_FOUND', detail);
  }
}

/**
 * Chooses the interface as flannel does: `--iface` in order, then `--iface-regex` in order, then `--iface-can-reach`;
 * with none of the three, the interface that has `--public-ip`, and without that the one of the IPv4 default route.
 *
 * An option that matches nothing is passed over for the next; only when all fail, it is an error.
 */
export function chooseUnderlay(options: UnderlayOptions, facts: UnderlayFacts): UnderlayChoice {
  const publicIp = options.publicIp === '' ? null : parseIpv4(options.publicIp);
  if (options.publicIp !== '' && publicIp === null) {
    throw new UnderlayError(`--public-ip=${options.publicIp} is not an IPv4 address; give one like 192.0.2.1`);
  }
  const explicit = options.interfaces.length > 0 || options.patterns.length > 0 || options.canReach !== '';
  const attempts: Attempt[] = explicit
    ? [
        ...options.interfaces.map((wanted) => () => byNameOrAddress(`--iface=${wanted}`, wanted, facts)),
        ...options.patterns.map((pattern) => () => byPattern(pattern, facts)),
        ...(options.canReach === '' ? [] : [() => byReach(options.canReach, facts)]),
      ]
    : publicIp !== null
      ? [() => byNameOrAddress(`--public-ip=${options.publicIp}`, options.publicIp, facts)]
      : [() => byDefaultRoute(facts)];
  const tried: string[] = [];
  for (const attempt of attempts) {
    const outcome = attempt();
    if (typeof outcome === 'string') tried.push(outcome);
    else {
      const { underlay, reason } = outcome;
      return { underlay, reason, publicIp: publicIp ?? underlay.address, publicIpv6: null };
    }
  }
  throw new UnderlayError(
    `no interface to send the overlay's packets from. Tried: ${tried.join('; ')}. ` +
      `This host has: ${describeLinks(facts.links)}. Name one of them with --iface`,
  );
}

/** Asks the kernel and chooses. */
export async function findUnderlay(options: UnderlayOptions, ip: IpTool = ipTool()): Promise<UnderlayChoice> {
  const [links, defaultRoutes, reach] = await Promise.all([
    ip.json<LinkJson[]>('address', 'show'),
    ip.json<RouteJson[]>('-4', 'route', 'show', 'default'),
    parseIpv4(options.canReach) === null ? null : routeTo(options.canReach, ip),
  ]);
  return chooseUnderlay(options, { links, defaultRoutes, reach });
}

async function routeTo(target: string, ip: IpTool): Promise<RouteJson | string> {
  try {
    const [route] = await ip.json<RouteJson[]>('-4', 'route', 'get', target);
    return route ?? 'no route';
  } catch (thrown) {
    if (thrown instanceof ExecError && thrown.result !== null) return thrown.result.stderr.trim();
    throw thrown;
  }
}

type Found = Pick<UnderlayChoice, 'underlay' | 'reason'>;
/** Finds an interface, or tells in words why not. */
type Attempt = () => Found | string;

function byNameOrAddress(option: string, wanted: string, { links }: UnderlayFacts): Found | string {
  const address = parseIpv4(wanted);
  if (address === null) {
    const link = links.find(({ ifname }) => ifname === wanted);
    return link === undefined ? `${option} (no such interface)` : withFirstAddress(option, link);
  }
  // Any address will do here, also one that would never be chosen by itself: the operator named it.
  const link = links.find(({ addr_info }) =>
    ipv4Addresses(addr_info).some(({ local }) => parseIpv4(local) === address),
  );
  return link === undefined ? `${option} (no interface has this address)` : found(option, link, address);
}

function byPattern(pattern: string, { links }: UnderlayFacts): Found | string {
  const option = `--iface-regex=${pattern}`;
  const expression = compile(pattern);
  if (expression === null) return `${option} (not a regular expression)`;
  for (const link of links) {
    const address = usableAddresses(link).find((candidate) => expression.test(formatIpv4(candidate)));
    if (address !== undefined) return found(option, link, address);
  }
  const link = links.find(({ ifname }) => expression.test(ifname));
  return link === undefined ? `${option} (matches no address and no name)` : withFirstAddress(option, link);
}

/** Go's regular expressions put flags in front of the pattern, which JavaScript takes only apart from it. */
function compile(pattern: string): RegExp | null {
  const [, flags = '', rest = pattern] = /^\(\?([ims]+)\)(.*)$/s.exec(pattern) ?? [];
  try {
    return new RegExp(rest, flags);
  } catch {
    return null;
  }
}

function byReach(target: string, { links, reach }: UnderlayFacts): Found | string {
  const option = `--iface-can-reach=${target}`;
  if (parseIpv4(target) === null) return `${option} (not an IPv4 address)`;
  if (reach === null || typeof reach === 'string') return `${option} (${reach ?? 'no route'})`;
  const link = links.find(({ ifname }) => ifname === reach.dev);
  if (link === undefined) return `${option} (the route names no interface of this host)`;
  const source = parseIpv4(reach.prefsrc ?? '');
  return source === null ? withFirstAddress(option, link) : found(option, link, source);
}

function byDefaultRoute({ links, defaultRoutes }: UnderlayFacts): Found | string {
  const option = 'the interface of the IPv4 default route';
  if (defaultRoutes.length === 0) return `${option} (there is no default route)`;
  for (const route of defaultRoutes) {
    const device = route.dev ?? route.nexthops?.[0]?.dev;
    const link = links.find(({ ifname }) => ifname === device);
    if (link !== undefined) return withFirstAddress(option, link);
  }
  return `${option} (the default route names no interface)`;
}

function withFirstAddress(option: string, link: LinkJson): Found | string {
  const [address] = usableAddresses(link);
  return address === undefined ? `${option} (${link.ifname} has no usable IPv4 address)` : found(option, link, address);
}

function found(reason: string, link: LinkJson, address: number): Found | string {
  if (link.mtu === 0) return `${reason} (${link.ifname} has MTU 0)`;
  const prefixLength = ipv4Addresses(link.addr_info).find(({ local }) => parseIpv4(local) === address)?.prefixlen ?? 32;
  return {
    underlay: { name: link.ifname, index: link.ifindex, address, prefixLength, ipv6: null, mtu: link.mtu },
    reason,
  };
}

function ipv4Addresses(addresses: readonly AddressJson[]): readonly AddressJson[] {
  return addresses.filter(({ family }) => family === 'inet');
}

/**
 * The addresses a host may be known by, the best first: never a deprecated one; global before link-local, permanent
 * before those with a lifetime (DHCP), primary before secondary or temporary; else in the kernel's order.
 */
function usableAddresses(link: LinkJson): readonly number[] {
  return ipv4Addresses(link.addr_info)
    .filter(({ deprecated }) => !deprecated)
    .map((address) => ({ address, value: parseIpv4(address.local) }))
    .filter((entry): entry is { address: AddressJson; value: number } => entry.value !== null && isUnicast(entry.value))
    .map(({ address, value }) => ({ value, rank: rankOf(address, value) }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ value }) => value);
}

function rankOf(address: AddressJson, value: number): number {
  const linkLocal = isLinkLocal(value) ? 4 : 0;
  const dynamic = address.dynamic ? 2 : 0;
  return linkLocal + dynamic + (address.temporary || address.secondary ? 1 : 0);
}

/** 169.254.0.0/16, RFC 3927. */
function isLinkLocal(address: number): boolean {
  return address >>> 16 === 0xa9fe;
}

/** Not 0.0.0.0, loopback, multicast or 255.255.255.255: what Go calls global unicast, and link-local. */
function isUnicast(address: number): boolean {
  const first = address >>> 24;
  return address !== 0 && address !== 0xffffffff && first !== 127 && (first < 224 || first > 239);
}

function describeLinks(links: readonly LinkJson[]): string {
  return links
    .map(({ ifname, addr_info }) => {
      const addresses = ipv4Addresses(addr_info).map(({ local }) => local);
      return `${ifname} (${addresses.join(', ') || 'no IPv4 address'})`;
    })
    .join(', ');
}
