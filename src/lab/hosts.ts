import { isIPv6 } from 'node:net';
import { modeOf } from './modes.js';
import { containerName, hostName, namespaceOf, parsePlace } from './names.js';
import {
  createNamespaces,
  deleteNamespaces,
  ipInside,
  listNamespaces,
  processesInside,
  shareNamespace,
} from './namespace.js';
import { hostAddress, hostAddressV6, type LabOptions, ofFamilies } from './options.js';
import { containersOf, hostNamespaces, isAttached, networkOwner } from './places.js';
import { endProcesses } from './process.js';
import type { HostState, LabFiles } from './state.js';
import { plugInHost, unplugHost } from './underlay.js';

export interface HostSettings {
  /** An address of it on the underlay, in place of the one of its number. */
  readonly address?: string;
  readonly containers?: number;
  /** In place of the lab's own. */
  readonly daemonArgs?: readonly string[];
}

/** What the host of that number will be. */
export function planHost(options: LabOptions, number: number, settings: HostSettings = {}): HostState {
  const { containers = options.containers, daemonArgs } = settings;
  const usual = ofFamilies(options.underlayFamily, hostAddress(number), hostAddressV6(number));
  const addresses = settings.address === undefined ? usual : withAddress(usual, settings.address);
  const [address = ''] = addresses;
  return {
    name: hostName(number),
    address,
    addresses,
    containers: Array.from({ length: containers }, (_, index) => containerName(index + 1)),
    ...(daemonArgs && { daemonArgs }),
  };
}

/** The same with this one in place of that of its family. */
export function withAddress(addresses: readonly string[], address: string): readonly string[] {
  return addresses.map((one) => (isIPv6(one) === isIPv6(address) ? address : one));
}

/** Makes the namespaces of a host and of its containers, and plugs the host into the switch. */
export async function makeHost(options: LabOptions, host: HostState): Promise<void> {
  const containers = containersOf(options.name, host).map(({ name, namespace }) => {
    return { name, namespace, owner: networkOwner(options, host.name, name) };
  });
  const own = containers.filter(({ name, owner }) => owner === `${host.name}/${name}`);
  await createNamespaces([
    namespaceOf(options.name, { kind: 'host', host: host.name }),
    ...own.map(({ namespace }) => namespace),
  ]);
  for (const { namespace, owner } of containers.filter((container) => !own.includes(container))) {
    await shareNamespace(namespaceOf(options.name, parsePlace(owner)), namespace);
  }
  for (const { name, namespace } of own) {
    if (modeOf(options.modes, name).kind === 'none') await ipInside(namespace, ['link set lo up']);
  }
  await plugInHost(options, host.name, host.addresses);
}

/** Takes a host away, as a power cut would. */
export async function removeHost(options: LabOptions, host: HostState): Promise<void> {
  const namespaces = hostNamespaces(options.name, host);
  await endProcesses(await processesInside(namespaces), { signal: 'SIGKILL' });
  await unplugHost(options, host.name);
  await deleteNamespaces(namespaces);
}

/** Is everything of the host there, its daemon aside? */
export async function isWhole(options: LabOptions, files: LabFiles, host: HostState): Promise<boolean> {
  return (await allExist(hostNamespaces(options.name, host))) && (await isAttached(options, files, host));
}

export async function allExist(namespaces: readonly string[]): Promise<boolean> {
  const existing = new Set(await listNamespaces());
  return namespaces.every((name) => existing.has(name));
}
