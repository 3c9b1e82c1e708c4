import { type AnyPrefix, formatAddress, parseAddress } from '../base/address.js';
import { parseEnvFile } from '../base/env-file.js';
import { forEach } from './each.js';
import { LabError } from './errors.js';
import { ipInside, type Namespace } from './namespace.js';

/** The bridge of every host that its containers are joined to, as docker0 is on a Docker host. */
export const bridgeName = 'br0';

/** What a daemon tells Docker through subnet.env, and what the lab does with it in Docker's place. */
export interface HostSubnet {
  /** The bridge's address of each family with the subnet's length, IPv4's first: FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET. */
  readonly gateways: readonly AnyPrefix[];
  /** Bytes: FLANNEL_MTU. */
  readonly mtu: number;
}

/** Reads the lines of a subnet.env that containers depend on. */
export function parseSubnetFile(text: string): HostSubnet {
  const variables = parseEnvFile(text);
  const texts = ['FLANNEL_SUBNET', 'FLANNEL_IPV6_SUBNET'].map((name) => variables.get(name) ?? '');
  const gateways = texts.filter((text) => text !== '').map(parseGateway);
  const whole = gateways.filter((gateway) => gateway !== null);
  const mtu = Number(variables.get('FLANNEL_MTU'));
  if (whole.length === 0 || whole.length < gateways.length || !Number.isInteger(mtu)) {
    throw new LabError(
      'LAB_SUBNET_FILE',
      'the subnet file lacks FLANNEL_SUBNET or FLANNEL_MTU; read the log of the daemon that wrote it',
    );
  }
  return { gateways: whole, mtu };
}

/** With its host bits. */
function parseGateway(text: string): AnyPrefix | null {
  const [, host = '', length = ''] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const address = parseAddress(host);
  return address === null ? null : ({ address, length: Number(length) } as AnyPrefix);
}

/** Container N has the Nth address of each family behind the bridge's. */
export function containerAddresses({ gateways }: HostSubnet, number: number): readonly string[] {
  return gateways.map(({ address }) =>
    formatAddress(typeof address === 'number' ? address + number : address + BigInt(number)),
  );
}

/** The first of them. */
export function containerAddress(subnet: HostSubnet, number: number): string {
  return containerAddresses(subnet, number)[0] as string;
}

/**
 * A MAC address made of the IPv4 address, as Docker makes them, so that a later owner of the address is found at once; of an
 * IPv6 address the last 32 bits are taken, and those that tell subnets apart besides.
 */
export function macOf(address: string): string {
  const parsed = parseAddress(address) ?? 0;
  const bits = typeof parsed === 'number' ? parsed : Number((parsed ^ (parsed >> 64n)) & 0xffff_ffffn);
  const octets = [24, 16, 8, 0].map((shift) => ((bits >>> shift) & 255).toString(16).padStart(2, '0'));
  return `02:42:${octets.join(':')}`;
}

/** Makes the bridge of a host, with the subnet's first address. */
export async function makeBridge(hostNamespace: Namespace, subnet: HostSubnet): Promise<void> {
  await ipInside(hostNamespace, [
    `link add ${bridgeName} address ${macOf(containerAddress(subnet, 0))} type bridge forward_delay 0`,
    `link set ${bridgeName} mtu ${subnet.mtu} up`,
    ...subnet.gateways.map((gateway) => addition(formatAddress(gateway.address), gateway.length, bridgeName)),
  ]);
}

/** Nobody else has it: the kernel need not ask around for a second before an IPv6 address can be used. */
function addition(address: string, length: number, device: string): string {
  return `addr add ${address}/${length} dev ${device}${address.includes(':') ? ' nodad' : ''}`;
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
      ...containerAddresses(subnet, number).map((address, index) =>
        addition(address, subnet.gateways[index]?.length ?? 0, 'eth0'),
      ),
      ...subnet.gateways.map(({ address }) => `route add default via ${formatAddress(address)}`),
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
