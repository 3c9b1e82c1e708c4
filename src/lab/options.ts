import {
  type AnyPrefix,
  type Family,
  familyOf,
  formatAnyPrefix,
  isIpv4Prefix,
  parseAddress,
  parseAnyPrefix,
  prefixContains,
  prefixesOverlap,
} from '../base/address.js';
import { formatIpv4, type Prefix, parseIpv4 } from '../base/ipv4.js';
import { formatIpv6, type Ipv6Prefix, parseIpv6 } from '../base/ipv6.js';
import { LabError, LabOptionError } from './errors.js';
import { checkModes } from './modes.js';
import { checkLabName, containerName, defaultLabName } from './names.js';

export const registryKinds = ['etcd', 'directory'] as const;
export const familyChoices = ['ipv4', 'ipv6', 'dual'] as const;
export type FamilyChoice = (typeof familyChoices)[number];
export const backendKinds = ['udp', 'vxlan', 'host-gw', 'wireguard'] as const;

/** What a lab is made of, complete and checked. It is kept in the lab's state, so every member survives JSON. */
export interface LabOptions {
  readonly name: string;
  readonly hosts: number;
  /** Containers of each host. */
  readonly containers: number;
  /** How they are joined to the network: `host`, or `c2=host` for one of each host; `modes.ts` reads it. */
  readonly modes: readonly string[];
  readonly registry: (typeof registryKinds)[number];
  /** Which families the overlay carries. */
  readonly ipFamilies: FamilyChoice;
  /** Which families the hosts have addresses of. */
  readonly underlayFamily: FamilyChoice;
  /** The overlay's IPv4 network, `a.b.c.d/len`. */
  readonly network: string;
  /** Its IPv6 network. */
  readonly networkV6: string;
  readonly backend: (typeof backendKinds)[number];
  /** MTU of the links between hosts and switch, in bytes. */
  readonly underlayMtu: number;
  /** Further members of the network configuration; `Backend` is merged with the type chosen above. */
  readonly networkConfig: Readonly<Record<string, unknown>>;
  /** Further arguments of every host's daemon. */
  readonly daemonArgs: readonly string[];
  /** What is run as the daemon, before its arguments; empty: this project's own `tweed run`. */
  readonly daemonCommand: readonly string[];
}

const defaults: LabOptions = {
  name: defaultLabName,
  hosts: 3,
  containers: 2,
  modes: [],
  registry: 'etcd',
  ipFamilies: 'dual',
  underlayFamily: 'dual',
  network: '100.96.0.0/16',
  networkV6: 'fd00:100:96::/48',
  backend: 'udp',
  underlayMtu: 1500,
  networkConfig: {},
  daemonArgs: [],
  daemonCommand: [],
};

/** The network between the hosts. It exists inside the lab's namespaces only. */
export const underlayNetwork: Prefix = { address: parseIpv4('192.168.64.0') as number, length: 20 };
/** The same by IPv6. */
export const underlayNetworkV6: Ipv6Prefix = { address: parseIpv6('fd00:192:168:64::') as bigint, length: 64 };
/** The internet's address on the underlay: the hosts' default route. */
export const internetAddress = formatIpv4(underlayNetwork.address + 1);
export const internetAddressV6 = formatIpv6(underlayNetworkV6.address + 1n);
export const etcdAddress = formatIpv4(underlayNetwork.address + 2);
export const etcdAddressV6 = formatIpv6(underlayNetworkV6.address + 2n);
/** An address that is reached only by way of the internet namespace (RFC 5737, TEST-NET-3). */
export const farAddress = '203.0.113.1';
/** The same by IPv6 (RFC 3849). */
export const farAddressV6 = '2001:db8:203::1';
/** Host N gets the address of this offset plus N. */
const firstHostOffset = 256;
export const mostHosts = 200;

export function hostAddress(number: number): string {
  return formatIpv4(underlayNetwork.address + firstHostOffset + number);
}

export function hostAddressV6(number: number): string {
  return formatIpv6(underlayNetworkV6.address + BigInt(firstHostOffset + number));
}

/** The families of a choice, IPv4 first. */
export function familiesOf(choice: FamilyChoice): readonly Family[] {
  return choice === 'dual' ? [4, 6] : [choice === 'ipv4' ? 4 : 6];
}

/** Of an IPv4 and an IPv6 address those that a choice wants. */
export function ofFamilies(choice: FamilyChoice, ipv4: string, ipv6: string): readonly string[] {
  return familiesOf(choice).map((family) => (family === 4 ? ipv4 : ipv6));
}

/** Adds the length of the underlay's prefix to an address of it. */
export function onUnderlay(address: string): string {
  const parsed = parseAddress(address);
  const network = parsed === null || familyOf(parsed) === 4 ? underlayNetwork : underlayNetworkV6;
  if (parsed === null || !prefixContains(network, parsed)) {
    const text = formatAnyPrefix(network);
    throw new LabError('LAB_ADDRESS', `"${address}" is not on the lab's underlay; choose an address of ${text}`);
  }
  return `${address}/${network.length}`;
}

/**
 * Fills in the defaults and refuses what cannot work. Of the two choices of families one that is not given is as the other.
 *
 * @param usual what both are where neither is given
 */
export function completeOptions(given: Partial<LabOptions>, usual: FamilyChoice = 'dual'): LabOptions {
  const chosen = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const { ipFamilies = given.underlayFamily ?? usual, underlayFamily = ipFamilies } = given;
  const options: LabOptions = { ...defaults, ...chosen, ipFamilies, underlayFamily };
  checkLabName(options.name);
  checkNumber('hosts', options.hosts, 1, mostHosts);
  checkNumber('containers', options.containers, 0, 200);
  const names = Array.from({ length: options.containers }, (_, index) => containerName(index + 1));
  checkModes(options.modes, names);
  // Below 576 + 28 a host need not accept a datagram unfragmented (RFC 791); above 65,535 there is no IPv4 packet.
  checkNumber('underlay-mtu', options.underlayMtu, 604, 65_535);
  const network = parseAnyPrefix(options.network);
  if (network === null || !isIpv4Prefix(network)) {
    throw new LabOptionError(`network "${options.network}" is no IPv4 prefix; write a.b.c.d/len`);
  }
  checkOverlap(options.network, network, underlayNetwork);
  const networkV6 = parseAnyPrefix(options.networkV6);
  if (networkV6 === null || isIpv4Prefix(networkV6)) {
    throw new LabOptionError(`network-v6 "${options.networkV6}" is no IPv6 prefix; write it as ${defaults.networkV6}`);
  }
  checkOverlap(options.networkV6, networkV6, underlayNetworkV6);
  checkFamilies(options);
  return options;
}

function checkOverlap(text: string, network: AnyPrefix, underlay: AnyPrefix): void {
  if (!prefixesOverlap(network, underlay)) return;
  const taken = formatAnyPrefix(underlay);
  throw new LabOptionError(`network ${text} overlaps the lab's underlay ${taken}; choose another`);
}

/** All but `udp` carry each family by addresses of the same one, as flannel's do; `wireguard` only where it is not told otherwise. */
function checkFamilies(options: LabOptions): void {
  const { backend, ipFamilies, underlayFamily, underlayMtu } = options;
  const missing = familiesOf(ipFamilies).filter((family) => !familiesOf(underlayFamily).includes(family));
  if (backend !== 'udp' && !hasOneDeviceForBoth(options) && missing.length > 0) {
    throw new LabOptionError(
      `${backend} carries IPv${missing[0]} by IPv${missing[0]} only; give the underlay that family too: --underlay-family`,
    );
  }
  if (ipFamilies === 'ipv4' && underlayFamily === 'ipv6') {
    throw new LabOptionError(
      'a host of an overlay of IPv4 alone looks for an IPv4 address only; choose --ip-families dual, or give the underlay IPv4 too',
    );
  }
  if (ipFamilies !== 'ipv4') checkNumber('underlay-mtu', underlayMtu, leastMtuForIpv6(backend), 65_535);
  else if (underlayFamily !== 'ipv4') checkNumber('underlay-mtu', underlayMtu, 1280, 65_535);
}

/** RFC 8200, 5: below 1280 bytes a link has no IPv6; the overlay's packets are shorter than the underlay's by so many at most. */
function leastMtuForIpv6(backend: LabOptions['backend']): number {
  return 1280 + (backend === 'wireguard' ? 80 : 70);
}

/**
 * The families of a lab where nobody chose any: both, but for what stands against IPv6.
 *
 * @param hasIpv6 whether new network namespaces of this machine have it
 * @returns why IPv4 is alone; null where both are there, or where somebody chose
 */
export function reasonForIpv4Alone(given: Partial<LabOptions>, hasIpv6: boolean): string | null {
  if (given.ipFamilies !== undefined || given.underlayFamily !== undefined) return null;
  if (!hasIpv6) return 'this machine has no IPv6';
  const { underlayMtu = defaults.underlayMtu, backend = defaults.backend } = given;
  const least = leastMtuForIpv6(backend);
  return underlayMtu < least ? `IPv6 needs an underlay of ${least} bytes or more` : null;
}

/** `wireguard` in a mode other than `separate`. */
function hasOneDeviceForBoth({ backend, networkConfig }: LabOptions): boolean {
  const { Backend: members } = networkConfig;
  const mode = typeof members === 'object' && members !== null && 'Mode' in members ? members.Mode : 'separate';
  return backend === 'wireguard' && mode !== 'separate';
}

/** The first option of `given` that differs from what a running lab was made with; null when none does. */
export function firstDifference(running: LabOptions, given: Partial<LabOptions>): keyof LabOptions | null {
  for (const key of Object.keys(given) as (keyof LabOptions)[]) {
    const wanted = given[key];
    if (wanted !== undefined && JSON.stringify(wanted) !== JSON.stringify(running[key])) return key;
  }
  return null;
}

/** The network configuration that the lab puts into the registry, as JSON text. */
export function networkConfigOf(options: LabOptions): string {
  const { Backend: backend, ...others } = options.networkConfig;
  const members = typeof backend === 'object' && backend !== null ? backend : {};
  const families = familiesOf(options.ipFamilies);
  const networks = {
    ...(families.includes(4) ? { Network: options.network } : { EnableIPv4: false }),
    ...(families.includes(6) && { EnableIPv6: true, IPv6Network: options.networkV6 }),
  };
  return JSON.stringify({ ...networks, ...others, Backend: { Type: options.backend, ...members } });
}

function checkNumber(option: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new LabOptionError(`${option} is ${value}; choose a whole number from ${least} to ${most}`);
  }
}
