import { containerName, hostName } from './names.js';
import { createNamespaces, deleteNamespaces, listNamespaces, processesInside } from './namespace.js';
import { hostAddress, type LabOptions } from './options.js';
import { hostNamespaces, isAttached } from './places.js';
import { endProcesses } from './process.js';
import type { HostState, LabFiles } from './state.js';
import { plugInHost, unplugHost } from './underlay.js';

export interface HostSettings {
  /** Its address on the underlay; the one of its number without it. */
  readonly address?: string;
  readonly containers?: number;
  /** In place of the lab's own. */
  readonly daemonArgs?: readonly string[];
}

/** What the host of that number will be. */
export function planHost(options: LabOptions, number: number, settings: HostSettings = {}): HostState {
  const { address = hostAddress(number), containers = options.containers, daemonArgs } = settings;
  return {
    name: hostName(number),
    address,
    containers: Array.from({ length: containers }, (_, index) => containerName(index + 1)),
    ...(daemonArgs && { daemonArgs }),
  };
}

/** Makes the namespaces of a host and of its containers, and plugs the host into the switch. */
export async function makeHost(options: LabOptions, host: HostState): Promise<void> {
  await createNamespaces(hostNamespaces(options.name, host));
  await plugInHost(options, host.name, host.address);
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
