/**
 * Addresses, routes and settings of a link: read, compared with what is wanted, and put right.
 *
 * The comparing functions are pure and return commands for `ip -batch`; the `ensure` functions read, compare and apply,
 * and return one line of text for each repair, so that a daemon can call them every few seconds and log what they say.
 */

import { TweedError } from '../base/errors.js';
import { ExecError } from '../base/exec.js';
import { contains, formatIpv4, formatPrefix, type Prefix, parseIpv4, parsePrefix, samePrefix } from '../base/ipv4.js';
import { type IpTool, ipTool, type LinkJson, type RouteJson } from './ip.js';

export class LinkMissingError extends TweedError {
  constructor(readonly link: string) {
    super('LINK_MISSING', `there is no interface ${link}; whoever owns it has to make it again (a restart does)`);
  }
}

/** A link as it is. */
export interface LinkState {
  readonly name: string;
  readonly index: number;
  readonly up: boolean;
  readonly mtu: number;
  readonly txQueueLength: number;
  /** `tun`, `vxlan`, `bridge`, `veth`, …; empty for hardware. */
  readonly kind: string;
  /** Its hardware address; empty when it has none. */
  readonly hardwareAddress: string;
  /** IPv4 addresses; each keeps its host bits. */
  readonly addresses: readonly Prefix[];
}

/** An IPv4 route as it is, or as it is wanted. */
export interface Route {
  readonly destination: Prefix;
  /** The next hop, host order; none when the destination is on the link. */
  readonly gateway?: number;
  /** Take the gateway for reachable through the device, whatever the addresses say. */
  readonly onlink?: boolean;
  /** Preferred source address, host order. */
  readonly source?: number;
}

/** A route of the main table as it is. */
export interface InstalledRoute extends Route {
  readonly device: string;
  /** `unicast`, `blackhole`, … */
  readonly type: string;
  /** Who made it: `kernel`, `boot`, `static`, … */
  readonly protocol: string;
  readonly metric: number;
}

/** What a device of the overlay is to look like. */
export interface WantedLink {
  readonly name: string;
  readonly mtu: number;
  readonly txQueueLength?: number;
  /** Usually the subnet's own address with length 32. */
  readonly address: Prefix;
  /**
   * Networks of the overlay, today's and former ones: addresses and routes in them that are not wanted are leftovers of
   * an earlier life and are removed from this device; everything else on it is somebody else's and stays.
   */
  readonly networks: readonly Prefix[];
  /** All routes into `networks` that shall lead through this device. */
  readonly routes: readonly Route[];
}

/** A command for `ip -batch` and what it repairs. */
export interface Repair {
  readonly command: string;
  readonly text: string;
  /** Set when it adds a route, which another device's route may stand in the way of. */
  readonly route?: { readonly device: string; readonly destination: Prefix };
}

export async function readLink(name: string, ip: IpTool = ipTool()): Promise<LinkState | null> {
  try {
    const [link] = await ip.json<LinkJson[]>('-details', 'address', 'show', 'dev', name);
    return link === undefined ? null : linkState(link);
  } catch (thrown) {
    if (thrown instanceof ExecError && /does not exist|Cannot find device/.test(thrown.message)) return null;
    throw thrown;
  }
}

/** Every link of the host. */
export async function readLinks(ip: IpTool = ipTool()): Promise<readonly LinkState[]> {
  return (await ip.json<LinkJson[]>('-details', 'address', 'show')).map(linkState);
}

export function linkState(link: LinkJson): LinkState {
  return {
    name: link.ifname,
    index: link.ifindex,
    up: link.flags.includes('UP'),
    mtu: link.mtu,
    txQueueLength: link.txqlen ?? 0,
    kind: link.linkinfo?.info_kind ?? '',
    hardwareAddress: link.address ?? '',
    addresses: link.addr_info.flatMap(({ family, local, prefixlen }) => {
      const address = family === 'inet' ? parseIpv4(local) : null;
      return address === null ? [] : [{ address, length: prefixlen }];
    }),
  };
}

/** The IPv4 routes of the main table; those of one device when it is named. */
export async function readRoutes(device: string | null, ip: IpTool = ipTool()): Promise<readonly InstalledRoute[]> {
  const words = device === null ? [] : ['dev', device];
  const routes = await ip.json<RouteJson[]>('-4', '-details', 'route', 'show', 'table', 'main', ...words);
  return routes.flatMap((route) => installedRoute(device === null ? route : { dev: device, ...route }));
}

/** Multipath routes have no device of their own and are left out: tweed makes none and touches none. */
export function installedRoute(route: RouteJson): readonly InstalledRoute[] {
  const destination = parseDestination(route.dst);
  if (destination === null || route.nexthops !== undefined) return [];
  const gateway = parseIpv4(route.gateway ?? '');
  const source = parseIpv4(route.prefsrc ?? '');
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

function parseDestination(text: string): Prefix | null {
  if (text === 'default') return { address: 0, length: 0 };
  return parsePrefix(text.includes('/') ? text : `${text}/32`);
}

/**
 * Makes the device look as wanted. Returns what was repaired.
 *
 * @throws LinkMissingError when there is no such device
 * @throws LinkRepairError when the kernel refuses a part; the rest is done
 */
export async function ensureLink(wanted: WantedLink, ip: IpTool = ipTool()): Promise<readonly string[]> {
  const state = await readLink(wanted.name, ip);
  if (state === null) throw new LinkMissingError(wanted.name);
  // The routes of a link that is down are gone already, so one look at both tells everything.
  const repairs = linkRepairs(wanted, state, await readRoutes(wanted.name, ip));
  const { done, failed } = await applyRepairs(repairs, ip);
  if (failed.length > 0) throw new LinkRepairError(wanted.name, failed);
  return done;
}

/** A repair that the kernel refused, and why. */
export interface FailedRepair {
  readonly repair: Repair;
  readonly error: string;
}

export class LinkRepairError extends TweedError {
  constructor(
    readonly link: string,
    readonly failed: readonly FailedRepair[],
  ) {
    const details = failed.map(({ repair, error }) => `ip ${repair.command}: ${error}`);
    super('LINK_NOT_REPAIRED', `${link} could not be set up: ${details.join('; ')}; remove what is in the way`);
  }
}

/** Does a route of another device that stands in the way of ours come from an earlier life of ours? */
export type TakeOver = (route: InstalledRoute) => boolean;

/** Routes through devices of the overlay: flannel0, flannel.1. */
const throughOverlayDevice: TakeOver = ({ device }) => /^flannel[.\d]/.test(device);

/** Carries out every repair in one process; one that is refused does not stop the others. */
export async function applyRepairs(
  repairs: readonly Repair[],
  ip: IpTool = ipTool(),
  takeOver: TakeOver = throughOverlayDevice,
): Promise<{ readonly done: readonly string[]; readonly failed: readonly FailedRepair[] }> {
  const refused = new Map(
    (await ip.batchAll(repairs.map(({ command }) => command))).map((one) => [one.line, one.error]),
  );
  const done: string[] = [];
  const failed: FailedRepair[] = [];
  for (const repair of repairs) {
    const error = refused.get(repair.command);
    if (error === undefined) done.push(repair.text);
    else if (repair.route === undefined || !error.includes('File exists')) failed.push({ repair, error });
    else {
      const { device, destination } = repair.route;
      const words = ['table', 'main', 'exact', formatPrefix(destination)];
      const rivals = (await ip.json<RouteJson[]>('-4', '-details', 'route', 'show', ...words)).flatMap(installedRoute);
      const rival = rivals.find(({ metric }) => metric === 0);
      if (rival?.device === device) continue; // somebody was faster
      const rivalText = rival === undefined ? 'a multipath route' : `a route through ${rival.device || rival.type}`;
      if (rival === undefined || rival.protocol === 'kernel' || !takeOver(rival)) {
        failed.push({ repair, error: `${rivalText} is there already` });
      } else {
        await ip.run(...repair.command.replace('route add', 'route replace').split(' '));
        done.push(`${repair.text}, in place of ${rivalText}`);
      }
    }
  }
  return { done, failed };
}

/** What it takes to make the device look as wanted. */
export function linkRepairs(
  wanted: WantedLink,
  state: LinkState,
  routes: readonly InstalledRoute[],
): readonly Repair[] {
  const { name, mtu, txQueueLength, address, networks } = wanted;
  const repairs: Repair[] = [];
  for (const stale of staleAddresses(state.addresses, networks, address)) {
    const text = formatPrefix(stale);
    repairs.push({
      command: `address del ${text} dev ${name}`,
      text: `removed the former address ${text} from ${name}`,
    });
  }
  if (!state.addresses.some((present) => samePrefix(present, address))) {
    const text = formatPrefix(address);
    repairs.push({
      command: `address add ${text} scope global dev ${name}`,
      text: `added the address ${text} to ${name}`,
    });
  }
  if (state.mtu !== mtu) {
    repairs.push({
      command: `link set dev ${name} mtu ${mtu}`,
      text: `set the MTU of ${name} from ${state.mtu} to ${mtu}`,
    });
  }
  if (txQueueLength !== undefined && state.txQueueLength !== txQueueLength) {
    repairs.push({
      command: `link set dev ${name} txqueuelen ${txQueueLength}`,
      text: `set the transmit queue of ${name} from ${state.txQueueLength} to ${txQueueLength} packets`,
    });
  }
  if (!state.up) repairs.push({ command: `link set dev ${name} up`, text: `set ${name} up` });
  return [...repairs, ...routeRepairs(name, wanted.routes, networks, routes)];
}

/** Addresses in the overlay's networks that are not the wanted one. */
export function staleAddresses(
  present: readonly Prefix[],
  networks: readonly Prefix[],
  wanted: Prefix,
): readonly Prefix[] {
  return present.filter(
    (one) => !samePrefix(one, wanted) && networks.some((network) => contains(network, one.address)),
  );
}

/**
 * What it takes to make the routes of a device into the overlay's networks exactly the wanted ones. `present` are the
 * routes of that device. Routes that the kernel made for an address, and all routes elsewhere, are left alone.
 */
export function routeRepairs(
  device: string,
  wanted: readonly Route[],
  networks: readonly Prefix[],
  present: readonly InstalledRoute[],
): readonly Repair[] {
  const repairs: Repair[] = [];
  const byDestination = new Map(
    present
      .filter((route) => route.device === device && route.metric === 0)
      .map((route) => [formatPrefix(route.destination), route]),
  );
  const keep = new Set(wanted.map(({ destination }) => formatPrefix(destination)));
  for (const route of present) {
    const text = formatPrefix(route.destination);
    if (keep.has(text) || route.device !== device || !isStale(route, networks)) continue;
    repairs.push({
      command: `route del ${text} dev ${device}${route.metric === 0 ? '' : ` metric ${route.metric}`}`,
      text: `removed the former route to ${text} through ${device}`,
    });
  }
  for (const route of wanted) {
    const text = formatPrefix(route.destination);
    const installed = byDestination.get(text);
    if (installed !== undefined && sameRoute(installed, route)) continue;
    // `replace` would take away a route of another device, so it is only for one that is ours.
    repairs.push(
      installed === undefined
        ? {
            command: `route add ${routeWords(route, device)}`,
            text: `added the route to ${text} through ${device}`,
            route: { device, destination: route.destination },
          }
        : {
            command: `route replace ${routeWords(route, device)}`,
            text: `corrected the route to ${text} through ${device}`,
          },
    );
  }
  return repairs;
}

/** Is it a route into the overlay that some earlier life of ours made? */
function isStale(route: InstalledRoute, networks: readonly Prefix[]): boolean {
  return (
    route.type === 'unicast' &&
    route.protocol !== 'kernel' &&
    networks.some(
      (network) => route.destination.length >= network.length && contains(network, route.destination.address),
    )
  );
}

function sameRoute(installed: InstalledRoute, wanted: Route): boolean {
  return (
    installed.type === 'unicast' &&
    installed.gateway === wanted.gateway &&
    (installed.onlink ?? false) === (wanted.onlink ?? false) &&
    (wanted.source === undefined || installed.source === wanted.source)
  );
}

/** A route in the words of `ip route add`. */
export function routeWords({ destination, gateway, onlink, source }: Route, device: string): string {
  return [
    formatPrefix(destination),
    ...(gateway === undefined ? [] : [`via ${formatIpv4(gateway)}`]),
    `dev ${device}`,
    ...(onlink ? ['onlink'] : []),
    ...(source === undefined ? [] : [`src ${formatIpv4(source)}`]),
  ].join(' ');
}

/**
 * The least preferred metric there is. With flannel's 0 the blackhole wins over the route of a container bridge that
 * comes up after it, and cuts the containers off.
 */
const lastMetric = 0xffff_ffff;

/** `--ip-blackhole-route`: packets for addresses of the own subnet that no container has end here. */
export async function ensureBlackhole(subnet: Prefix, ip: IpTool = ipTool()): Promise<readonly string[]> {
  const text = formatPrefix(subnet);
  const present = await readBlackholes(subnet, ip);
  const stale = present.filter(({ metric }) => metric !== lastMetric);
  const commands = stale.map(({ metric }) => `route del blackhole ${text} metric ${metric}`);
  const texts = stale.map(({ metric }) => `removed the blackhole route for ${text} with metric ${metric}`);
  if (present.length === stale.length) {
    commands.push(`route add blackhole ${text} metric ${lastMetric}`);
    texts.push(`added the blackhole route for ${text}`);
  }
  await ip.batch(commands);
  return texts;
}

/** Removes the blackhole routes of a subnet that is no longer ours. */
export async function removeBlackhole(subnet: Prefix, ip: IpTool = ipTool()): Promise<readonly string[]> {
  const text = formatPrefix(subnet);
  const present = await readBlackholes(subnet, ip);
  await ip.batch(present.map(({ metric }) => `route del blackhole ${text} metric ${metric}`));
  return present.map(() => `removed the blackhole route for ${text}`);
}

async function readBlackholes(subnet: Prefix, ip: IpTool): Promise<readonly InstalledRoute[]> {
  const words = ['table', 'main', 'type', 'blackhole', 'exact', formatPrefix(subnet)];
  const routes = await ip.json<RouteJson[]>('-4', '-details', 'route', 'show', ...words);
  return routes.flatMap(installedRoute);
}
