import { formatAddress, formatAnyPrefix, parseAnyPrefix } from '../base/address.js';
import { containerAddress, containerAddresses, type HostSubnet } from './containers.js';
import { daemonStatus, readSubnet } from './daemon.js';
import { LabDaemonError, LabError } from './errors.js';
import { formatMode, modeOf } from './modes.js';
import { fixedPlaces, namespaceOf, type Publication } from './names.js';
import { listNamespaces } from './namespace.js';
import type { LabOptions } from './options.js';
import { bridgedContainersOf, containersOf, networkOwner } from './places.js';
import { livePid } from './process.js';
import type { HostState, LabFiles, LabState } from './state.js';
import { waitFor } from './wait.js';

export interface ContainerStatus {
  readonly name: string;
  /** How it is joined to the network: `bridge`, `none`, `host` or `container:c1`. */
  readonly mode: string;
  /** Null while the host has no subnet. */
  readonly address: string | null;
  /** One of each family; none while the host has no subnet. */
  readonly addresses: readonly string[];
  readonly namespace: string;
  readonly exists: boolean;
}

export interface HostStatus {
  readonly name: string;
  readonly address: string;
  readonly addresses: readonly string[];
  readonly namespace: string;
  readonly exists: boolean;
  readonly daemon: {
    readonly pid: number | null;
    /** The daemon's own word; null when it does not answer. */
    readonly ready: boolean | null;
    readonly peers: number | null;
    readonly log: string;
  };
  /** The IPv4 one, and only where it has none, the other one. */
  readonly subnet: string | null;
  readonly subnets: readonly string[];
  readonly mtu: number | null;
  readonly containers: readonly ContainerStatus[];
}

/** What `tweed lab status --json` prints. */
export interface LabStatus {
  readonly name: string;
  readonly complete: boolean;
  readonly options: LabOptions;
  readonly registry: { readonly kind: string; readonly pid: number | null; readonly log: string };
  readonly places: readonly { readonly name: string; readonly namespace: string; readonly exists: boolean }[];
  readonly hosts: readonly HostStatus[];
  readonly publications: readonly Publication[];
  /** Is every part there and every daemon ready? */
  readonly healthy: boolean;
}

export async function statusOf(state: LabState, files: LabFiles): Promise<LabStatus> {
  const { options } = state;
  const existing = new Set(await listNamespaces());
  const places = fixedPlaces.map((kind) => {
    const namespace = namespaceOf(options.name, { kind });
    return { name: kind, namespace, exists: existing.has(namespace) };
  });
  const hosts = await Promise.all(
    state.hosts.map(async (host): Promise<HostStatus> => {
      const namespace = namespaceOf(options.name, { kind: 'host', host: host.name });
      const subnet = await subnetIfKnown(files, host.name);
      const daemon = await daemonStatus(files, host.name);
      return {
        name: host.name,
        address: host.address,
        addresses: host.addresses,
        namespace,
        exists: existing.has(namespace),
        daemon: {
          pid: await livePid(files.record(host.name)),
          ready: daemon?.ready ?? null,
          peers: daemon?.backend?.peers.length ?? null,
          log: files.log(host.name),
        },
        subnet: subnet && (subnetTexts(subnet)[0] ?? null),
        subnets: subnet === null ? [] : subnetTexts(subnet),
        mtu: subnet?.mtu ?? null,
        containers: containersOf(options.name, host).map((container) => ({
          name: container.name,
          mode: formatMode(modeOf(options.modes, container.name)),
          ...addressesOf(options, host, container.name, subnet),
          namespace: container.namespace,
          exists: existing.has(container.namespace),
        })),
      };
    }),
  );
  const registry = { kind: options.registry, pid: await livePid(files.record('etcd')), log: files.log('etcd') };
  const healthy =
    state.complete &&
    (options.registry !== 'etcd' || registry.pid !== null) &&
    places.every(({ exists }) => exists) &&
    hosts.every(
      ({ exists, daemon, containers }) =>
        exists && daemon.pid !== null && daemon.ready !== false && containers.every((container) => container.exists),
    );
  const { complete, publications } = state;
  return { name: options.name, complete, options, registry, places, hosts, publications, healthy };
}

/** A container that shares a network has its addresses. */
function addressesOf(options: LabOptions, host: HostState, container: string, subnet: HostSubnet | null) {
  const owner = networkOwner(options, host.name, container);
  if (owner === host.name) return { address: host.address, addresses: host.addresses };
  const own = bridgedContainersOf(options, host).find(({ name }) => owner === `${host.name}/${name}`);
  if (own === undefined || subnet === null) return { address: null, addresses: [] };
  return { address: containerAddress(subnet, own.number), addresses: containerAddresses(subnet, own.number) };
}

/** Waits until the daemon of every host knows the subnet and the address of every other host. */
export async function waitForPeers(state: LabState, files: LabFiles, signal?: AbortSignal): Promise<void> {
  if (state.options.daemonCommand.length > 0) return; // another daemon has no status to be asked for
  const wanted = await Promise.all(
    state.hosts.map(async ({ name, addresses }) => {
      const subnets = subnetTexts(await readSubnet(files, name));
      return { name, addresses, subnets };
    }),
  );
  for (const { name } of wanted) {
    const others = wanted.filter((host) => host.name !== name);
    await waitFor(
      `${name} to know ${others.map((host) => host.name).join(', ')}`,
      async () => {
        if ((await livePid(files.record(name))) === null) {
          throw new LabDaemonError(name, 'ended', files.log(name));
        }
        const peers = (await daemonStatus(files, name))?.backend?.peers ?? [];
        return others.every(({ addresses, subnets }) =>
          peers.some(({ subnet, subnetV6, publicIp, publicIpv6 }) => {
            const known = [subnet, subnetV6];
            const reached = [publicIp, publicIpv6];
            return subnets.every((one) => known.includes(one)) && addresses.some((one) => reached.includes(one));
          }),
        );
      },
      { signal },
    );
  }
}

function subnetTexts({ gateways }: HostSubnet): readonly string[] {
  return gateways.map(({ address, length }) => {
    const prefix = parseAnyPrefix(`${formatAddress(address)}/${length}`);
    return prefix === null ? '' : formatAnyPrefix(prefix);
  });
}

async function subnetIfKnown(files: LabFiles, host: string): Promise<HostSubnet | null> {
  try {
    return await readSubnet(files, host);
  } catch (error) {
    if (error instanceof LabError) return null;
    throw error;
  }
}
