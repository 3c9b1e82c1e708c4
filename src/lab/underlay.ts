import { formatAnyPrefix } from '../base/address.js';
import { exec } from '../base/exec.js';
import { macOf } from './containers.js';
import { namespaceOf } from './names.js';
import { ipInside, setSysctls } from './namespace.js';
import {
  etcdAddress,
  etcdAddressV6,
  familiesOf,
  farAddress,
  farAddressV6,
  internetAddress,
  internetAddressV6,
  type LabOptions,
  ofFamilies,
  onUnderlay,
  underlayNetwork,
  underlayNetworkV6,
} from './options.js';

const switchBridge = 'switch0';

/** Makes the switch that all hosts are plugged into, and the two places that are always there. */
export async function makeUnderlay(options: LabOptions): Promise<void> {
  const internet = namespaceOf(options.name, { kind: 'internet' });
  await ipInside(namespaceOf(options.name, { kind: 'switch' }), [
    'link set lo up',
    `link add ${switchBridge} type bridge forward_delay 0`,
    `link set ${switchBridge} mtu ${options.underlayMtu} up`,
  ]);
  const { underlayFamily } = options;
  const etcd = namespaceOf(options.name, { kind: 'etcd' });
  await plugIn(options, internet, 'internet', ofFamilies(underlayFamily, internetAddress, internetAddressV6));
  await plugIn(options, etcd, 'etcd', ofFamilies(underlayFamily, etcdAddress, etcdAddressV6));
  // What lies behind the internet is one more address of it, from which it also answers. It knows no way back to the
  // overlay: only masqueraded packets are answered.
  await ipInside(
    internet,
    familiesOf(underlayFamily).flatMap((family) =>
      family === 4
        ? [
            `addr add ${farAddress}/32 dev lo`,
            `route replace ${formatAnyPrefix(underlayNetwork)} dev eth0 src ${farAddress}`,
          ]
        : [
            `addr add ${farAddressV6}/128 dev lo nodad`,
            // with the metric of the kernel's own, whose place it takes
            `route replace ${formatAnyPrefix(underlayNetworkV6)} dev eth0 src ${farAddressV6} metric 256`,
          ],
    ),
  );
}

/** Makes a host's machine: its link to the switch, the default route to the internet, forwarding switched on. */
export async function plugInHost(options: LabOptions, host: string, addresses: readonly string[]): Promise<void> {
  const namespace = namespaceOf(options.name, { kind: 'host', host });
  await plugIn(options, namespace, host, addresses);
  await ipInside(
    namespace,
    defaultRoutes(options).map((route) => `route add ${route}`),
  );
  // A host whose overlay carries a family forwards it, whatever its underlay is.
  const switches = familiesOf(options.ipFamilies).map((family) =>
    family === 4 ? 'ipv4/ip_forward' : 'ipv6/conf/all/forwarding',
  );
  await setSysctls(namespace, '1', switches);
}

function defaultRoutes({ underlayFamily }: LabOptions): readonly string[] {
  return ofFamilies(underlayFamily, internetAddress, internetAddressV6).map((router) => `default via ${router}`);
}

/** Gives a host another address on the underlay, as DHCP or its operator would. */
export async function changeHostAddress(
  options: LabOptions,
  host: string,
  from: readonly string[],
  to: readonly string[],
): Promise<void> {
  await ipInside(namespaceOf(options.name, { kind: 'host', host }), [
    ...from.filter((address) => !to.includes(address)).map((address) => `addr delete ${onUnderlay(address)} dev eth0`),
    ...to.filter((address) => !from.includes(address)).map(addition),
    ...defaultRoutes(options).map((route) => `route replace ${route}`),
  ]);
}

/** Nobody else has it: the kernel need not ask around for a second before an IPv6 address can be used. */
function addition(address: string): string {
  return `addr add ${onUnderlay(address)} dev eth0${address.includes(':') ? ' nodad' : ''}`;
}

/** Pulls a host's plug at once; the kernel takes its time to remove the links of a deleted namespace. */
export async function unplugHost(options: LabOptions, host: string): Promise<void> {
  const argv = ['ip', '-n', namespaceOf(options.name, { kind: 'switch' }), 'link', 'delete', host];
  await exec(argv, { tolerate: true });
}

/** A veth pair from inside the namespace to a port of the switch: the root namespace never sees either end. */
async function plugIn(
  options: LabOptions,
  namespace: string,
  port: string,
  addresses: readonly string[],
): Promise<void> {
  const switchNamespace = namespaceOf(options.name, { kind: 'switch' });
  await ipInside(namespace, [
    'link set lo up',
    `link add eth0 mtu ${options.underlayMtu} address ${macOf(addresses[0] ?? '')} type veth ` +
      `peer name ${port} mtu ${options.underlayMtu} netns ${switchNamespace}`,
    ...addresses.map(addition),
  ]);
  await ipInside(switchNamespace, [`link set ${port} master ${switchBridge} up`]);
  await ipInside(namespace, ['link set eth0 up']);
}
