import { type Address, type AnyPrefix, addressBits, familyOf, formatAddress, parseAddress } from '../base/address.js';
import { TweedError } from '../base/errors.js';
import { ExecError } from '../base/exec.js';
import { parseIpv4 } from '../base/ipv4.js';
import { parseIpv6 } from '../base/ipv6.js';
import { type AddressJson, type IpTool, joiningIpTool, type LinkJson, type RouteJson } from './ip.js';

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
  /** `--iface`, in order: names or addresses. */
  readonly interfaces: readonly string[];
  /** `--iface-regex`, in order. */
  readonly patterns: readonly string[];
  /** `--iface-can-reach`: an address. */
  readonly canReach: string;
  /** `--public-ip`: an IPv4 address. */
  readonly publicIp: string;
  /** `--public-ipv6`: an IPv6 address. */
  readonly publicIpv6: string;
}

/** What the kernel knows. */
export interface UnderlayFacts {
  /** Every link, in the order of the kernel (by index). */
  readonly links: readonly LinkJson[];
  /** The default routes of the main table, those of IPv4 first, the preferred one of each family first. */
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
 * with none of the three, the interface that has `--public-ip` or `--public-ipv6`, and without those the one of the IPv4
 * default route, or else of the IPv6 one. Its addresses of both families are taken; one may be missing.
 *
 * An option that matches nothing is passed over for the next; only when all fail, it is an error.
 */
export function chooseUnderlay(options: UnderlayOptions, facts: UnderlayFacts): UnderlayChoice {
  const publicIp = optionalAddress('public-ip', options.publicIp, parseIpv4, 'an IPv4 address', '192.0.2.1');
  const publicIpv6 = optionalAddress('public-ipv6', options.publicIpv6, parseIpv6, 'an IPv6 address', '2001:db8::1');
  const explicit = options.interfaces.length > 0 || options.patterns.length > 0 || options.canReach !== '';
  const named = [
    ...(publicIp === null ? [] : [`--public-ip=${options.publicIp}`]),
    ...(publicIpv6 === null ? [] : [`--public-ipv6=${options.publicIpv6}`]),
  ];
  const attempts: Attempt[] = explicit
    ? [
        ...options.interfaces.map((wanted) => () => byNameOrAddress(`--iface=${wanted}`, wanted, facts)),
        ...options.patterns.map((pattern) => () => byPattern(pattern, facts)),
        ...(options.canReach === '' ? [] : [() => byReach(options.canReach, facts)]),
      ]
    : named.length > 0
      ? named.map((option) => () => byNameOrAddress(option, option.slice(option.indexOf('=') + 1), facts))
      : [() => byDefaultRoute(facts)];
  const tried: string[] = [];
  for (const attempt of attempts) {
    const outcome = attempt();
    if (typeof outcome === 'string') tried.push(outcome);
    else {
      const { underlay, reason } = outcome;
      const own = { publicIp: underlay.address, publicIpv6: underlay.ipv6?.address ?? null };
      return { underlay, reason, publicIp: publicIp ?? own.publicIp, publicIpv6: publicIpv6 ?? own.publicIpv6 };
    }
  }
  throw new UnderlayError(
    `no interface to send the overlay's packets from. Tried: ${tried.join('; ')}. ` +
      `This host has: ${describeLinks(facts.links)}. Name one of them with --iface`,
  );
}

function optionalAddress<Parsed>(
  name: string,
  text: string,
  parse: (text: string) => Parsed | null,
  what: string,
  example: string,
): Parsed | null {
  if (text === '') return null;
  const address = parse(text);
  if (address === null) throw new UnderlayError(`--${name}=${text} is not ${what}; give one like ${example}`);
  return address;
}

/** Asks the kernel and chooses. Every question costs a process: what the options leave no use for is not asked. */
export async function findUnderlay(options: UnderlayOptions, ip: IpTool = joiningIpTool()): Promise<UnderlayChoice> {
  const [links, routes, reach] = await Promise.all([
    ip.json<LinkJson[]>('address', 'show'),
    ip.json<RouteJson[]>('-4', 'route', 'show', 'default'),
    parseAddress(options.canReach) === null ? null : routeTo(options.canReach, ip),
  ]);
  try {
    return chooseUnderlay(options, { links, defaultRoutes: routes, reach });
  } catch (error) {
    if (!(error instanceof UnderlayError)) throw error;
  }
  // those of IPv6 count where the others lead nowhere; a kernel without it refuses
  const routesV6 = await ip.json<RouteJson[]>('-6', 'route', 'show', 'default').catch(() => []);
  return chooseUnderlay(options, { links, defaultRoutes: [...routes, ...routesV6], reach });
}

async function routeTo(target: string, ip: IpTool): Promise<RouteJson | string> {
  try {
    const [route] = await ip.json<RouteJson[]>(target.includes(':') ? '-6' : '-4', 'route', 'get', target);
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
  const address = parseAddress(wanted);
  if (address === null) {
    const link = links.find(({ ifname }) => ifname === wanted);
    return link === undefined ? `${option} (no such interface)` : found(option, link);
  }
  // Any address will do here, also one that would never be chosen by itself: the operator named it.
  const link = links.find(({ addr_info }) => addr_info.some(({ local }) => parseAddress(local) === address));
  return link === undefined ? `${option} (no interface has this address)` : found(option, link, address);
}

function byPattern(pattern: string, { links }: UnderlayFacts): Found | string {
  const option = `--iface-regex=${pattern}`;
  const expression = compile(pattern);
  if (expression === null) return `${option} (not a regular expression)`;
  for (const link of links) {
    const address = usableAddresses(link).find((candidate) => expression.test(formatAddress(candidate.address)));
    if (address !== undefined) return found(option, link, address.address);
  }
  const link = links.find(({ ifname }) => expression.test(ifname));
  return link === undefined ? `${option} (matches no address and no name)` : found(option, link);
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
  if (parseAddress(target) === null) return `${option} (not an address)`;
  if (reach === null || typeof reach === 'string') return `${option} (${reach ?? 'no route'})`;
  const link = links.find(({ ifname }) => ifname === reach.dev);
  if (link === undefined) return `${option} (the route names no interface of this host)`;
  const source = parseAddress(reach.prefsrc ?? '');
  // the kernel would answer from a temporary or a link-local address of IPv6, by which nobody may know the host
  return typeof source === 'number' ? found(option, link, source) : found(option, link);
}

function byDefaultRoute({ links, defaultRoutes }: UnderlayFacts): Found | string {
  const option = 'the interface of the default route';
  if (defaultRoutes.length === 0) return `${option} (there is no default route)`;
  const why: string[] = [];
  for (const route of defaultRoutes) {
    const device = route.dev ?? route.nexthops?.[0]?.dev;
    const link = links.find(({ ifname }) => ifname === device);
    const outcome = link === undefined ? null : found(option, link);
    if (outcome !== null && typeof outcome !== 'string') return outcome;
    if (outcome !== null && !why.includes(outcome)) why.push(outcome);
  }
  return why.length === 0 ? `${option} (the default route names no interface)` : why.join('; ');
}

/** @param wanted that of its family; without it, the best ones of both */
function found(reason: string, link: LinkJson, wanted: Address | null = null): Found | string {
  if (link.mtu === 0) return `${reason} (${link.ifname} has MTU 0)`;
  const underlay = underlayOf(link, wanted);
  return underlay === null ? `${reason} (${link.ifname} has no usable address)` : { underlay, reason };
}

/**
 * The link with its best address of each family; null when it has none.
 *
 * @param preferred these go first where the link has them, be they the best or not
 */
export function underlayOf(link: LinkJson, ...preferred: readonly (Address | null)[]): Underlay | null {
  const present = link.addr_info.flatMap(({ local, prefixlen }) => {
    const address = parseAddress(local);
    return address === null || !preferred.includes(address) ? [] : [{ address, length: prefixlen } as AnyPrefix];
  });
  const all = [...present, ...usableAddresses(link)];
  const v4 = all.find(({ address }) => familyOf(address) === 4);
  const v6 = all.find(({ address }) => familyOf(address) === 6);
  if (v4 === undefined && v6 === undefined) return null;
  return {
    name: link.ifname,
    index: link.ifindex,
    address: Number(v4?.address ?? 0),
    prefixLength: v4?.length ?? addressBits(4),
    ipv6: v6 === undefined ? null : { address: BigInt(v6.address), prefixLength: v6.length },
    mtu: link.mtu,
  };
}

/**
 * The addresses a host may be known by, the best first: never a deprecated one, nor one of IPv6 that is link-local or not
 * known to be unique yet; global before link-local, permanent before those with a lifetime (DHCP, router advertisements),
 * primary before secondary or temporary; else in the kernel's order.
 */
function usableAddresses(link: LinkJson): readonly AnyPrefix[] {
  return link.addr_info
    .filter(({ deprecated, tentative, dadfailed }) => !deprecated && !tentative && !dadfailed)
    .flatMap((json) => {
      const address = parseAddress(json.local);
      if (address === null || !isUnicast(address)) return [];
      return [{ prefix: { address, length: json.prefixlen } as AnyPrefix, rank: rankOf(json, address) }];
    })
    .sort((a, b) => a.rank - b.rank)
    .map(({ prefix }) => prefix);
}

function rankOf(json: AddressJson, address: Address): number {
  const linkLocal = typeof address === 'number' && isLinkLocal(address) ? 4 : 0;
  const dynamic = json.dynamic ? 2 : 0;
  return linkLocal + dynamic + (json.temporary || json.secondary ? 1 : 0);
}

/** 169.254.0.0/16, RFC 3927. */
function isLinkLocal(address: number): boolean {
  return address >>> 16 === 0xa9fe;
}

/**
 * Not 0.0.0.0, loopback, multicast or 255.255.255.255: what Go calls global unicast, and of IPv4 link-local. Of IPv6 neither
 * ::, loopback nor multicast, and not link-local, which means something else on each link.
 */
function isUnicast(address: Address): boolean {
  if (typeof address === 'bigint')
    return address > 1n && address >> 120n !== 0xffn && address >> 118n !== 0xfe80n >> 6n;
  const first = address >>> 24;
  return address !== 0 && address !== 0xffffffff && first !== 127 && (first < 224 || first > 239);
}

function describeLinks(links: readonly LinkJson[]): string {
  return links
    .map((link) => {
      const addresses = link.addr_info.filter(({ local }) => !local.startsWith('fe80:')).map(({ local }) => local);
      return `${link.ifname} (${addresses.join(', ') || 'no address'})`;
    })
    .join(', ');
}
