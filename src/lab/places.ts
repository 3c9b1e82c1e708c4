import { type AnyPrefix, formatAddress } from '../base/address.js';
import { exec } from '../base/exec.js';
import { PROGRAM_LIMITS, parseJson } from '../base/json.js';
import {
  bridgeName,
  type ContainerNamespace,
  type HostSubnet,
  joinContainers,
  makeBridge,
  removeBridge,
} from './containers.js';
import { readSubnet } from './daemon.js';
import { modeOf } from './modes.js';
import { fixedPlaces, namespaceOf, type Place } from './names.js';
import { ipCommand, type Namespace } from './namespace.js';
import type { LabOptions } from './options.js';
import type { HostState, LabFiles } from './state.js';

/** The places of a lab that are there whatever its hosts. */
export function fixedNamespaces(lab: string): string[] {
  return fixedPlaces.map((kind) => namespaceOf(lab, { kind }));
}

/** The namespaces of one host: its own first, then its containers'. */
export function hostNamespaces(lab: string, host: HostState): string[] {
  const places: Place[] = [
    { kind: 'host', host: host.name },
    ...host.containers.map((container) => ({ kind: 'container', host: host.name, container }) as const),
  ];
  return places.map((place) => namespaceOf(lab, place));
}

/** Those with a network of their own on the bridge. */
export function bridgedContainersOf({ name, modes }: LabOptions, host: HostState): ContainerNamespace<string>[] {
  return containersOf(name, host).filter((container) => modeOf(modes, container.name).kind === 'bridge');
}

/** The place whose network a container has: itself, its host, or another container. */
export function networkOwner({ modes }: Pick<LabOptions, 'modes'>, host: string, container: string): string {
  const mode = modeOf(modes, container);
  if (mode.kind === 'host') return host;
  return `${host}/${mode.kind === 'container' ? mode.of : container}`;
}

export function containersOf(lab: string, host: HostState): ContainerNamespace<string>[] {
  return host.containers.map((name, index) => ({
    name,
    number: index + 1,
    namespace: namespaceOf(lab, { kind: 'container', host: host.name, container: name }),
  }));
}

/** Gives a host its bridge and joins its containers to it, as its subnet file says. */
export async function attachContainers(options: LabOptions, files: LabFiles, host: HostState): Promise<void> {
  const namespace = namespaceOf(options.name, { kind: 'host', host: host.name });
  await attach(namespace, bridgedContainersOf(options, host), await readSubnet(files, host.name));
}

/**
 * Gives a host its bridge and joins its containers to it. What is right already stays as it is; after a change of subnet
 * or MTU it is made anew, as Docker would be restarted.
 */
export async function attach(
  host: Namespace,
  containers: readonly ContainerNamespace[],
  subnet: HostSubnet,
): Promise<void> {
  const bridge = await findBridge(host);
  if (bridge === describe(subnet)) return;
  const names = containers.map(({ name }) => name);
  if (bridge !== null) await removeBridge(host, names);
  await makeBridge(host, subnet);
  await joinContainers(host, containers, subnet);
}

/** Is everything of the host there that `attachContainers` made? */
export async function isAttached(options: LabOptions, files: LabFiles, host: HostState): Promise<boolean> {
  const namespace = namespaceOf(options.name, { kind: 'host', host: host.name });
  return (await findBridge(namespace)) === describe(await readSubnet(files, host.name));
}

function describe({ gateways, mtu }: HostSubnet): string {
  const text = ({ address, length }: AnyPrefix) => `${formatAddress(address)}/${length}`;
  return `${gateways.map(text).join(' ')} mtu ${mtu}`;
}

/** Addresses and MTU of a host's bridge; null when it has none. */
async function findBridge(namespace: Namespace): Promise<string | null> {
  const argv = [...ipCommand(namespace), '-json', 'addr', 'show', 'dev', bridgeName];
  const { status, stdout } = await exec(argv, { tolerate: true });
  if (status !== 0) return null;
  type Link = { mtu: number; addr_info: { family: string; local: string; prefixlen: number; scope: string }[] };
  const [link] = parseJson(stdout, PROGRAM_LIMITS) as [Link];
  const of = (wanted: string) => link.addr_info.filter(({ family, scope }) => family === wanted && scope === 'global');
  const addresses = [...of('inet'), ...of('inet6')].map(({ local, prefixlen }) => `${local}/${prefixlen}`);
  return `${addresses.join(' ')} mtu ${link.mtu}`;
}
