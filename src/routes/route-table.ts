/**
 * Routes of the main table: read, told apart by who made them, and compared with what is wanted.
 *
 * flannel gives its routes no mark, so nobody can tell one that it forgot from one that an administrator made. Ours to
 * peers carry a protocol number; through the overlay's own device every route into the overlay is ours; flannel's others
 * are recognised by their shape, and only once.
 */

import {
  type Address,
  type AnyPrefix,
  type Family,
  familyOf,
  formatAddress,
  formatAnyPrefix,
  hostPrefix,
  parseAddress,
  parseAnyPrefix,
  prefixContains,
  prefixCovers,
  sameAnyPrefix,
} from '../base/address.js';
import type { Change } from './changes.js';
import { type IpTool, ipTool, type RouteJson } from './ip.js';

/**
 * The routing protocol of our routes to peers (`proto 84` in `ip route`; rtnetlink(7): values above 4 mean nothing to the
 * kernel). No routing daemon in iproute2's /etc/iproute2/rt_protos has it.
 */
export const ROUTE_PROTOCOL = '84';

/** A route of either family: that of its destination, which the other addresses share. */
export interface Route {
  readonly destination: AnyPrefix;
  /** The next hop; none when the destination is on the link. */
  readonly gateway?: Address;
  /** Take the gateway for reachable through the device, whatever the addresses say. */
  readonly onlink?: boolean;
  /** Preferred source address. */
  readonly source?: Address;
  /** Who made it: `kernel`, `boot`, `static`, …; of a wanted one: left to `ip`, and not looked at. */
  readonly protocol?: string;
}

/** A route that is to be there. */
export interface WantedRoute extends Route {
  readonly device: string;
}

/** A route of the main table as it is. */
export interface InstalledRoute extends WantedRoute {
  /** `unicast`, `blackhole`, … */
  readonly type: string;
  readonly protocol: string;
  readonly metric: number;
}

/** Whose route is it? Asked for each family on its own. */
export interface RouteOwnership {
  /** Today's and former networks of the overlay, all of one family; nothing outside them is ours. */
  readonly networks: readonly AnyPrefix[];
  /** The overlay's own device, where every route into the overlay is ours; null when it has none. */
  readonly ownDevice: string | null;
  /** Where the peers are. */
  readonly underlay: string;
  /** Length of leased subnets. */
  readonly subnetLength: number;
}

/** The routes of one family in the main table. */
export function readRoutes(ip: IpTool = ipTool(), family: Family = 4): Promise<readonly InstalledRoute[]> {
  return show(ip, family);
}

/**
 * The metric that a route gets which was made without one: none for IPv4, but for IPv6 the kernel puts in one of its own
 * (IP6_RT_PRIO_USER).
 */
export function usualMetric({ address }: AnyPrefix): number {
  return familyOf(address) === 4 ? 0 : 1024;
}

/** Those inside the networks, which may be of both families. */
export async function readNetworkRoutes(
  networks: readonly AnyPrefix[],
  ip: IpTool = ipTool(),
): Promise<readonly InstalledRoute[]> {
  const routes = networks.map((network) => show(ip, familyOf(network.address), 'root', formatAnyPrefix(network)));
  return [...new Map((await Promise.all(routes)).flat().map((route) => [keyOf(route), route])).values()];
}

async function show(ip: IpTool, family: Family, ...words: string[]): Promise<readonly InstalledRoute[]> {
  const routes = await ip.json<RouteJson[]>(`-${family}`, '-details', 'route', 'show', 'table', 'main', ...words);
  return routes.flatMap((route) => installedRoute(route, family));
}

function keyOf({ destination, device, gateway, metric, type }: InstalledRoute): string {
  return [formatAnyPrefix(destination), device, gateway, metric, type].join(' ');
}

/** Multipath routes have no device of their own and are left out: tweed makes none and touches none. */
export function installedRoute(route: RouteJson, family: Family = 4): readonly InstalledRoute[] {
  const destination = parseDestination(route.dst, family);
  if (destination === null || route.nexthops !== undefined) return [];
  const gateway = parseAddress(route.gateway ?? '');
  const source = parseAddress(route.prefsrc ?? '');
  return [
    {
      destination,
      device: route.dev ?? '',
      type: route.type ?? 'unicast',
      protocol: route.protocol ?? 'boot',
      metric: route.metric ?? 0,
      onlink: route.flags?.includes('onlink') ?? false,
      ...(gateway !== null && { gateway }),
      ...(source !== null && { source }),
    },
  ];
}

function parseDestination(text: string, family: Family): AnyPrefix | null {
  if (text === 'default') return family === 4 ? { address: 0, length: 0 } : { address: 0n, length: 0 };
  const address = parseAddress(text);
  return address === null ? parseAnyPrefix(text) : hostPrefix(address);
}

/** Did this program make it? */
export function isOurs(
  route: InstalledRoute,
  { networks, ownDevice }: Pick<RouteOwnership, 'networks' | 'ownDevice'>,
): boolean {
  return (
    route.type === 'unicast' &&
    route.protocol !== 'kernel' &&
    networks.some((network) => prefixCovers(network, route.destination)) &&
    (route.protocol === ROUTE_PROTOCOL || (ownDevice !== null && route.device === ownDevice))
  );
}

/**
 * Does it look like one that flannel's host-gw made, or its vxlan with DirectRouting? Somebody else's may look the same,
 * so this decides only about routes that were there before the backend started.
 */
export function looksLikeFlannels(route: InstalledRoute, ownership: RouteOwnership): boolean {
  const { networks, underlay, subnetLength } = ownership;
  const { destination, gateway } = route;
  const isUsual = route.metric === usualMetric(destination);
  const plain = route.type === 'unicast' && route.protocol === 'boot' && isUsual && !route.onlink;
  return (
    plain &&
    route.device === underlay &&
    gateway !== undefined &&
    route.source === undefined &&
    destination.length === subnetLength &&
    networks.some((network) => prefixContains(network, destination.address) && !prefixContains(network, gateway))
  );
}

/**
 * Which routes that nobody wants are taken away: none, while there may be peers that are not known yet; ours; or any that
 * an earlier life may have left, also those that only look like flannel's.
 */
export type Leftovers = 'none' | 'ours' | 'any';

export interface RouteDifference {
  readonly changes: readonly Change[];
  /** By subject: why a wanted route cannot be made. */
  readonly obstacles: ReadonlyMap<string, string>;
}

/** What it takes to make our routes exactly the wanted ones. What is foreign stays, even where it is in the way. */
export function routeDifference(
  wanted: readonly WantedRoute[],
  present: readonly InstalledRoute[],
  ownership: RouteOwnership,
  leftovers: Leftovers,
): RouteDifference {
  const changes: Change[] = [];
  const obstacles = new Map<string, string>();
  const candidates = new Map(
    present
      .filter(({ metric, destination }) => metric === usualMetric(destination))
      .map((route) => [formatAnyPrefix(route.destination), route]),
  );
  const wantedTexts = new Set(wanted.map(({ destination }) => formatAnyPrefix(destination)));
  for (const route of wanted) {
    const text = formatAnyPrefix(route.destination);
    const installed = candidates.get(text);
    const words = routeWords(route);
    if (installed === undefined) {
      changes.push({ subject: text, command: `route add ${words}`, text: `added the route to ${text}${way(route)}` });
    } else if (!isOurs(installed, ownership) && !looksLikeFlannels(installed, ownership)) {
      obstacles.set(text, `${describe(installed)} is there already; ${adviceOn(installed, ownership)}`);
    } else if (!isSame(installed, route)) {
      // A change of nothing but the mark is no repair worth a word.
      const adopted = isSame({ ...installed, protocol: route.protocol ?? installed.protocol }, route);
      const done = `changed the route to ${text}:${way(route)} instead of${way(installed)}`;
      const verb = standsInItsOwnWay(installed, route) ? 'add' : 'replace';
      if (verb === 'add') changes.push({ subject: text, command: deletion(installed), text: '' });
      changes.push({ subject: text, command: `route ${verb} ${words}`, text: adopted ? '' : done });
    }
  }
  for (const route of leftovers === 'none' ? [] : present) {
    const text = formatAnyPrefix(route.destination);
    const stale = isOurs(route, ownership) || (leftovers === 'any' && looksLikeFlannels(route, ownership));
    if (!stale || (wantedTexts.has(text) && candidates.get(text) === route)) continue;
    changes.push({ subject: text, command: deletion(route), text: `removed the route to ${text}${way(route)}` });
  }
  return { changes, obstacles };
}

/**
 * Whether the one has to go before the other can come. By IPv6 the kernel looks up even an `onlink` gateway, and refuses one that
 * a route leads to by another device (ip6_route_check_nh_onlink); a gateway inside of its own destination is led to by
 * the very route that is to be replaced.
 */
function standsInItsOwnWay(installed: InstalledRoute, { destination, gateway, device, onlink }: WantedRoute): boolean {
  return (
    familyOf(destination.address) === 6 &&
    onlink === true &&
    gateway !== undefined &&
    prefixContains(destination, gateway) &&
    installed.device !== device
  );
}

function isSame(installed: InstalledRoute, wanted: WantedRoute): boolean {
  return (
    installed.device === wanted.device &&
    installed.gateway === wanted.gateway &&
    (installed.onlink ?? false) === (wanted.onlink ?? false) &&
    (wanted.source === undefined || installed.source === wanted.source) &&
    (wanted.protocol === undefined || installed.protocol === wanted.protocol)
  );
}

/** A route in the words of `ip route add`. */
function routeWords({ destination, gateway, device, onlink, source, protocol }: WantedRoute): string {
  return [
    formatAnyPrefix(destination),
    ...(gateway === undefined ? [] : [`via ${formatAddress(gateway)}`]),
    `dev ${device}`,
    ...(onlink ? ['onlink'] : []),
    ...(source === undefined ? [] : [`src ${formatAddress(source)}`]),
    ...(protocol === undefined ? [] : [`proto ${protocol}`]),
  ].join(' ');
}

/** Takes away this very route and no other. */
export function deletion({ destination, gateway, device, protocol, metric }: InstalledRoute): string {
  return [
    `route del ${formatAnyPrefix(destination)}`,
    ...(gateway === undefined ? [] : [`via ${formatAddress(gateway)}`]),
    `dev ${device} proto ${protocol}`,
    ...(metric === 0 ? [] : [`metric ${metric}`]),
  ].join(' ');
}

function way({ gateway, device }: { readonly gateway?: Address; readonly device: string }): string {
  return `${gateway === undefined ? '' : ` via ${formatAddress(gateway)}`} through ${device}`;
}

/**
 * Where the whole network is in the way of what the host itself is connected to, taking that route away would cut the host off.
 * A subnet of a peer is another matter: a bridge of former days may still have it.
 */
function adviceOn({ destination, protocol }: InstalledRoute, { networks }: RouteOwnership): string {
  const isHosts = destination.length === 0 || ['kernel', 'dhcp', 'ra'].includes(protocol);
  return isHosts && networks.some((network) => sameAnyPrefix(network, destination))
    ? 'this host is connected by it: choose another network ("tweed network set")'
    : 'remove it';
}

function describe(route: InstalledRoute): string {
  return route.device === '' ? `a ${route.type} route` : `a route${way(route)}`;
}
