import { contains, formatIpv4, formatPrefix, overlaps, type Prefix, parseIpv4, parsePrefix } from '../base/ipv4.js';
import { LabError, LabOptionError } from './errors.js';
import { checkLabName, defaultLabName } from './names.js';

export const registryKinds = ['etcd', 'directory'] as const;
export const backendKinds = ['udp', 'vxlan', 'host-gw', 'wireguard'] as const;

/** What a lab is made of, complete and checked. It is kept in the lab's state, so every member survives JSON. */
export interface LabOptions {
  readonly name: string;
  readonly hosts: number;
  /** Containers of each host. */
  readonly containers: number;
  readonly registry: (typeof registryKinds)[number];
  /** The overlay network, `a.b.c.d/len`. */
  readonly network: string;
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
  registry: 'etcd',
  network: '100.96.0.0/16',
  backend: 'udp',
  underlayMtu: 1500,
  networkConfig: {},
  daemonArgs: [],
  daemonCommand: [],
};

/** The network between the hosts. It exists inside the lab's namespaces only. */
export const underlayNetwork: Prefix = { address: parseIpv4('192.168.64.0') as number, length: 20 };
/** The internet's address on the underlay: the hosts' default route. */
export const internetAddress = formatIpv4(underlayNetwork.address + 1);
export const etcdAddress = formatIpv4(underlayNetwork.address + 2);
/** An address that is reached only by way of the internet namespace (RFC 5737, TEST-NET-3). */
export const farAddress = '203.0.113.1';
/** Host N gets the address of this offset plus N. */
const firstHostOffset = 256;
export const mostHosts = 200;

export function hostAddress(number: number): string {
  return formatIpv4(underlayNetwork.address + firstHostOffset + number);
}

/** Adds the length of the underlay's prefix to an address of it. */
export function onUnderlay(address: string): string {
  const parsed = parseIpv4(address);
  if (parsed === null || !contains(underlayNetwork, parsed)) {
    const network = formatPrefix(underlayNetwork);
    throw new LabError('LAB_ADDRESS', `"${address}" is not on the lab's underlay; choose an address of ${network}`);
  }
  return `${address}/${underlayNetwork.length}`;
}

/** Fills in the defaults and refuses what cannot work. */
export function completeOptions(given: Partial<LabOptions>): LabOptions {
  const chosen = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const options: LabOptions = { ...defaults, ...chosen };
  checkLabName(options.name);
  checkNumber('hosts', options.hosts, 1, mostHosts);
  checkNumber('containers', options.containers, 0, 200);
  // Below 576 + 28 a host need not accept a datagram unfragmented (RFC 791); above 65,535 there is no IPv4 packet.
  checkNumber('underlay-mtu', options.underlayMtu, 604, 65_535);
  const network = parsePrefix(options.network, { maskHostBits: true });
  if (network === null) {
    throw new LabOptionError(`network "${options.network}" is no IPv4 prefix; write a.b.c.d/len`);
  }
  if (overlaps(network, underlayNetwork)) {
    const underlay = formatPrefix(underlayNetwork);
    throw new LabOptionError(`network ${options.network} overlaps the lab's underlay ${underlay}; choose another`);
  }
  return options;
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
  return JSON.stringify({ Network: options.network, ...others, Backend: { Type: options.backend, ...members } });
}

function checkNumber(option: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new LabOptionError(`${option} is ${value}; choose a whole number from ${least} to ${most}`);
  }
}
