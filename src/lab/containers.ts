import { parseEnvFile } from '../base/env-file.js';
import { formatIpv4, formatPrefix, type Prefix, parsePrefix } from '../base/ipv4.js';
import { forEach } from './each.js';
import { LabError } from './errors.js';
import { ipInside, type Namespace } from './namespace.js';

/** The bridge of every host that its containers are joined to, as docker0 is on a Docker host. */
export const bridgeName = 'br0';

/** What a daemon tells Docker through subnet.env, and what the lab does with it in Docker's place. */
export interface HostSubnet {
  /** The bridge's address and the subnet's length: FLANNEL_SUBNET. */
  readonly gateway: Prefix;
  /** Bytes: FLANNEL_MTU. */
  readonly mtu: number;
}

/** Reads the lines of a subnet.env that containers depend on. */
export function parseSubnetFile(text: string): HostSubnet {
  const variables = parseEnvFile(text);
  const gateway = parsePrefix(variables.get('FLANNEL_SUBNET') ?? '');
  const mtu = Number(variables.get('FLANNEL_MTU'));
  if (gateway === null || !Number.isInteger(mtu)) {
    throw new LabError(
      'LAB_SUBNET_FILE',
      'the subnet file lacks FLANNEL_SUBNET or FLANNEL_MTU; read the log of the daemon that wrote it',
    );
  }
  return { gateway, mtu };
}

/** Container N has the Nth address behind the bridge's. */
export function containerAddress(subnet: HostSubnet, number: number): string {
  return formatIpv4(subnet.gateway.address + number);
}

/** A MAC address made of the IPv4 address, as Docker makes them, so that a later owner of the address is found at once. */
export function macOf(address: string): string {
  return `02:42:${address
    .split('.')
    .map((octet) => Number(octet).toString(16).padStart(2, '0'))
    .join(':')}`;
}

/** Makes the bridge of a host, with the subnet's first address. */
export async function makeBridge(hostNamespace: Namespace, subnet: HostSubnet): Promise<void> {
  await ipInside(hostNamespace, [
    `link add ${bridgeName} address ${macOf(formatIpv4(subnet.gateway.address))} type bridge forward_delay 0`,
    `link set ${bridgeName} mtu ${subnet.mtu} up`,
    `addr add ${formatPrefix(subnet.gateway)} dev ${bridgeName}`,
  ]);
}

export interface ContainerNamespace<Where extends NonNullable<Namespace> = NonNullable<Namespace>> {
  readonly name: string;
  readonly number: number;
  readonly namespace: Where;
}

/** Joins containers to the bridge of their host: a veth pair, an address, the default route by way of the bridge. */
export async function joinContainers(
  hostNamespace: Namespace,
  containers: readonly ContainerNamespace[],
  subnet: HostSubnet,
): Promise<void> {
  await ipInside(
    hostNamespace,
    containers.flatMap(({ name, number, namespace }) => [
      `link add ${vethName(name)} mtu ${subnet.mtu} type veth peer name eth0 mtu ${subnet.mtu} ` +
        `address ${macOf(containerAddress(subnet, number))} netns ${namespace}`,
      `link set ${vethName(name)} master ${bridgeName} up`,
    ]),
  );
  await forEach(containers, ({ number, namespace }) =>
    ipInside(namespace, [
      'link set lo up',
      'link set eth0 up',
      `addr add ${containerAddress(subnet, number)}/${subnet.gateway.length} dev eth0`,
      `route add default via ${formatIpv4(subnet.gateway.address)}`,
    ]),
  );
}

/** Takes bridge and veth pairs away, to make them anew for another subnet. Containers stay, without a network. */
export async function removeBridge(hostNamespace: Namespace, containers: readonly string[]): Promise<void> {
  await ipInside(hostNamespace, [
    `link delete ${bridgeName}`,
    ...containers.map((name) => `link delete ${vethName(name)}`),
  ]);
}

function vethName(container: string): string {
  return `veth-${container}`;
}
