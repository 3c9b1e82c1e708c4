/**
 * Routes to peers' subnets, over whatever devices they lead.
 *
 * flannel gives its routes no mark, so nobody can tell one that it forgot from one that an administrator made. Ours carry
 * a protocol number; flannel's are recognised by their shape, and only when a backend starts.
 */

import { contains, formatIpv4, formatPrefix, type Prefix } from '../../base/ipv4.js';
import type { RouteJson } from '../../routes/ip.js';
import { type InstalledRoute, installedRoute, type Route, routeWords } from '../../routes/links.js';
import type { Change } from './changes.js';
import type { Kernel } from './kernel.js';

/**
 * The routing protocol of our routes (`proto 84` in `ip route`; rtnetlink(7): values above 4 mean nothing to the kernel).
 * No routing daemon in iproute2's /etc/iproute2/rt_protos has it.
 */
export const ROUTE_PROTOCOL = '84';

/** A route that is to be there. */
export interface PeerRoute extends Route {
  readonly device: string;
}

/** Whose route is it? */
export interface RouteOwnership {
  /** Today's and former networks of the overlay; nothing outside them is ours. */
  readonly networks: readonly Prefix[];
  /** The overlay's own device, where every route into the overlay is ours; null when it has none. */
  readonly ownDevice: string | null;
  /** Where the peers are. */
  readonly underlay: string;
  /** Length of leased subnets. */
  readonly subnetLength: number;
}

/** The IPv4 routes of the main table inside the networks. */
export async function readNetworkRoutes(
  networks: readonly Prefix[],
  { ip }: Pick<Kernel, 'ip'>,
): Promise<readonly InstalledRoute[]> {
  const found = new Map<string, InstalledRoute>();
  for (const network of networks) {
    const words = ['table', 'main', 'root', formatPrefix(network)];
    for (const json of await ip.json<RouteJson[]>('-4', '-details', 'route', 'show', ...words)) {
      for (const route of installedRoute(json)) found.set(keyOf(route), route);
    }
  }
  return [...found.values()];
}

function keyOf({ destination, device, gateway, metric, type }: InstalledRoute): string {
  return [formatPrefix(destination), device, gateway, metric, type].join(' ');
}

/** Did this program make it? */
export function isOurs(route: InstalledRoute, { networks, ownDevice }: RouteOwnership): boolean {
  return (
    route.type === 'unicast' &&
    route.protocol !== 'kernel' &&
    networks.some(
      (network) => route.destination.length >= network.length && contains(network, route.destination.address),
    ) &&
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
  const plain = route.type === 'unicast' && route.protocol === 'boot' && route.metric === 0 && !route.onlink;
  return (
    plain &&
    route.device === underlay &&
    gateway !== undefined &&
    route.source === undefined &&
    destination.length === subnetLength &&
    networks.some((network) => contains(network, destination.address) && !contains(network, gateway))
  );
}

export interface RouteDifference {
  readonly changes: readonly Change[];
  /** By subnet: why a wanted route cannot be made. */
  readonly obstacles: ReadonlyMap<string, string>;
}

/**
 * What it takes to make the routes to peers exactly the wanted ones.
 *
 * @param formerLife also remove what flannel seems to have left behind
 */
export function routeDifference(
  wanted: readonly PeerRoute[],
  present: readonly InstalledRoute[],
  ownership: RouteOwnership,
  formerLife: boolean,
): RouteDifference {
  const changes: Change[] = [];
  const obstacles = new Map<string, string>();
  const candidates = new Map(
    present.filter(({ metric }) => metric === 0).map((route) => [formatPrefix(route.destination), route]),
  );
  const wantedTexts = new Set(wanted.map(({ destination }) => formatPrefix(destination)));
  for (const route of wanted) {
    const text = formatPrefix(route.destination);
    const installed = candidates.get(text);
    const words = `${routeWords(route, route.device)} proto ${ROUTE_PROTOCOL}`;
    if (installed === undefined) {
      changes.push({ subject: text, command: `route add ${words}`, text: `added the route to ${text}${way(route)}` });
    } else if (!isOurs(installed, ownership) && !looksLikeFlannels(installed, ownership)) {
      obstacles.set(text, `${describe(installed)} is there already; remove it`);
    } else if (!isSame(installed, route)) {
      // A change of nothing but the mark is no repair worth a word.
      const adopted = isSame({ ...installed, protocol: ROUTE_PROTOCOL }, route);
      const done = `changed the route to ${text}:${way(route)} instead of${way(installed)}`;
      changes.push({ subject: text, command: `route replace ${words}`, text: adopted ? '' : done });
    }
  }
  for (const route of present) {
    const text = formatPrefix(route.destination);
    const stale = isOurs(route, ownership) || (formerLife && looksLikeFlannels(route, ownership));
    if (!stale || (wantedTexts.has(text) && candidates.get(text) === route)) continue;
    changes.push({ subject: text, command: deletion(route), text: `removed the route to ${text}${way(route)}` });
  }
  return { changes, obstacles };
}

function isSame(installed: InstalledRoute, wanted: PeerRoute): boolean {
  return (
    installed.device === wanted.device &&
    installed.gateway === wanted.gateway &&
    (installed.onlink ?? false) === (wanted.onlink ?? false) &&
    installed.protocol === ROUTE_PROTOCOL
  );
}

/** Takes away this very route and no other. */
export function deletion({ destination, gateway, device, protocol, metric }: InstalledRoute): string {
  return [
    `route del ${formatPrefix(destination)}`,
    ...(gateway === undefined ? [] : [`via ${formatIpv4(gateway)}`]),
    `dev ${device} proto ${protocol}`,
    ...(metric === 0 ? [] : [`metric ${metric}`]),
  ].join(' ');
}

function way({ gateway, device }: { readonly gateway?: number; readonly device: string }): string {
  return `${gateway === undefined ? '' : ` via ${formatIpv4(gateway)}`} through ${device}`;
}

function describe(route: InstalledRoute): string {
  return route.device === '' ? `a ${route.type} route` : `a route${way(route)}`;
}
