/**
 * Addresses and settings of a link: read, compared with what is wanted, and put right.
 *
 * The comparing functions are pure and return commands for `ip -batch`; the `ensure` functions read, compare and apply,
 * and return one line of text for each repair, so that a daemon can call them every few seconds and log what they say.
 */

import {
  type AnyPrefix,
  formatAnyPrefix,
  isIpv4Prefix,
  parseAddress,
  prefixContains,
  sameAnyPrefix,
} from '../base/address.js';
import { TweedError } from '../base/errors.js';
import { ExecError } from '../base/exec.js';
import { applyChanges, type Change } from './changes.js';
import { type IpTool, ipTool, type LinkJson } from './ip.js';
import { type InstalledRoute, type Route, readNetworkRoutes, routeDifference } from './route-table.js';

export class LinkMissingError extends TweedError {
  constructor(readonly link: string) {
    super('LINK_MISSING', `there is no interface ${link}; whoever owns it has to make it again (a restart does)`);
  }
}

export class LinkRepairError extends TweedError {
  constructor(
    readonly link: string,
    /** By subject: what cannot be had, and why. */
    readonly failed: ReadonlyMap<string, string>,
  ) {
    const details = [...failed].map(([subject, text]) => `${subject}: ${text}`);
    // What the kernel refused has no advice of its own yet; a foreign route has.
    const advice = details.every((detail) => detail.includes('; ')) ? '' : '; remove what is in the way';
    super('LINK_NOT_REPAIRED', `${link} could not be set up: ${details.join('; ')}${advice}`);
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
  /** What only this kind of link has, as `ip -details` names it. */
  readonly data: Readonly<Record<string, unknown>>;
  /** Its hardware address; empty when it has none. */
  readonly hardwareAddress: string;
  /** Its addresses of both families; each keeps its host bits. */
  readonly addresses: readonly AnyPrefix[];
}

/** What a device of the overlay is to look like. */
export interface WantedDevice {
  readonly name: string;
  readonly mtu: number;
  readonly txQueueLength?: number;
  /** One for each family that it carries: usually the subnet's own address, as a prefix of this address alone. */
  readonly addresses: readonly AnyPrefix[];
  /**
   * Networks of the overlay, today's and former ones: addresses and routes in them that are not wanted are leftovers of
   * an earlier life and are removed from this device; everything else on it is somebody else's and stays.
   */
  readonly networks: readonly AnyPrefix[];
}

/** The same with all routes into `networks` that shall lead through it. */
export interface WantedLink extends WantedDevice {
  readonly routes: readonly Route[];
}

/** Null when there is no such link. */
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
    data: link.linkinfo?.info_data ?? {},
    hardwareAddress: link.address ?? '',
    addresses: link.addr_info.flatMap(({ local, prefixlen }) => {
      const address = parseAddress(local);
      return address === null ? [] : [{ address, length: prefixlen } as AnyPrefix];
    }),
  };
}

/**
 * Makes the device look as wanted. Returns what was repaired.
 *
 * @throws LinkMissingError when there is no such device
 * @throws LinkRepairError when something foreign or the kernel stands in the way of a part; the rest is done
 */
export async function ensureLink(wanted: WantedLink, ip: IpTool = ipTool()): Promise<readonly string[]> {
  const { name, networks } = wanted;
  // The routes of a link that is down are gone already, so one look at both tells everything.
  const [state, present] = await Promise.all([readLink(name, ip), readNetworkRoutes(networks, ip)]);
  if (state === null) throw new LinkMissingError(name);
  const routes = wanted.routes.map((route) => ({ ...route, device: name }));
  const ownership = { networks, ownDevice: name, underlay: '', subnetLength: 0 };
  const { changes, obstacles } = routeDifference(routes, present, ownership, 'ours');
  const { done, failed } = await applyChanges([...linkChanges(wanted, state), ...changes], ip);
  if (obstacles.size + failed.size > 0) throw new LinkRepairError(name, new Map([...obstacles, ...failed]));
  return done;
}

/** What it takes to make the device look as wanted, routes aside. */
export function linkChanges(wanted: WantedDevice, state: LinkState): readonly Change[] {
  const { name, mtu, txQueueLength, addresses, networks } = wanted;
  const changes: Change[] = [];
  const add = (command: string, text: string) => changes.push({ subject: name, command, text });
  // The MTU first: below 1280 a device has no IPv6, and takes no address of it.
  if (state.mtu !== mtu) {
    add(`link set dev ${name} mtu ${mtu}`, `set the MTU of ${name} from ${state.mtu} to ${mtu}`);
  }
  if (txQueueLength !== undefined && state.txQueueLength !== txQueueLength) {
    const text = `set the transmit queue of ${name} from ${state.txQueueLength} to ${txQueueLength} packets`;
    add(`link set dev ${name} txqueuelen ${txQueueLength}`, text);
  }
  const has = (list: readonly AnyPrefix[], one: AnyPrefix) => list.some((other) => sameAnyPrefix(other, one));
  for (const present of state.addresses) {
    if (has(addresses, present) || !networks.some((network) => prefixContains(network, present.address))) continue;
    const text = formatAnyPrefix(present);
    add(`address del ${text} dev ${name}`, `removed the former address ${text} from ${name}`);
  }
  for (const address of addresses) {
    if (has(state.addresses, address)) continue;
    const text = formatAnyPrefix(address);
    // Nobody else has it, and until the kernel had asked whether somebody does, it could not be used.
    const flags = isIpv4Prefix(address) ? '' : ' nodad';
    add(`address add ${text} scope global dev ${name}${flags}`, `added the address ${text} to ${name}`);
  }
  if (!state.up) add(`link set dev ${name} up`, `set ${name} up`);
  return changes;
}

/**
 * The least preferred metric there is. With flannel's 0 the blackhole wins over the route of a container bridge that
 * comes up after it, and cuts the containers off.
 */
const lastMetric = 0xffff_ffff;

/** `--ip-blackhole-route`: packets for addresses of the own subnet that no container has end here. */
export async function ensureBlackhole(subnet: AnyPrefix, ip: IpTool = ipTool()): Promise<readonly string[]> {
  const text = formatAnyPrefix(subnet);
  const present = await readBlackholes(subnet, ip);
  const stale = present.filter(({ metric }) => metric !== lastMetric);
  const changes = stale.map((route) => blackholeRemoval(route, ` with metric ${route.metric}`));
  if (present.length === stale.length) {
    const command = `route add blackhole ${text} metric ${lastMetric}`;
    changes.push({ subject: text, command, text: `added the blackhole route for ${text}` });
  }
  return applyBlackholes(changes, ip);
}

/** Removes the blackhole routes of a subnet that is no longer ours. */
export async function removeBlackhole(subnet: AnyPrefix, ip: IpTool = ipTool()): Promise<readonly string[]> {
  return applyBlackholes(
    (await readBlackholes(subnet, ip)).map((route) => blackholeRemoval(route)),
    ip,
  );
}

function blackholeRemoval({ destination, metric }: InstalledRoute, which = ''): Change {
  const subject = formatAnyPrefix(destination);
  const command = `route del blackhole ${subject} metric ${metric}`;
  return { subject, command, text: `removed the blackhole route for ${subject}${which}` };
}

async function applyBlackholes(changes: readonly Change[], ip: IpTool): Promise<readonly string[]> {
  const { done, failed } = await applyChanges(changes, ip);
  if (failed.size > 0) throw new BlackholeError([...failed.values()].join('; '));
  return done;
}

export class BlackholeError extends TweedError {
  constructor(detail: string) {
    super(
      'BLACKHOLE_FAILED',
      `the blackhole route could not be set: ${detail}; look at "ip route show type blackhole"`,
    );
  }
}

async function readBlackholes(subnet: AnyPrefix, ip: IpTool): Promise<readonly InstalledRoute[]> {
  const routes = await readNetworkRoutes([subnet], ip);
  return routes.filter(({ type, destination }) => type === 'blackhole' && sameAnyPrefix(destination, subnet));
}
