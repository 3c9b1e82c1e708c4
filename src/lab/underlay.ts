import { exec } from '../base/exec.js';
import { formatPrefix } from '../base/ipv4.js';
import { macOf } from './containers.js';
import { namespaceOf } from './names.js';
import { ipInside, setSysctls } from './namespace.js';
import { etcdAddress, farAddress, internetAddress, type LabOptions, onUnderlay, underlayNetwork } from './options.js';

const switchBridge = 'switch0';

/** Makes the switch that all hosts are plugged into, and the two places that are always there. */
export async function makeUnderlay(options: LabOptions): Promise<void> {
  const internet = namespaceOf(options.name, { kind: 'internet' });
  await ipInside(namespaceOf(options.name, { kind: 'switch' }), [
    'link set lo up',
    `link add ${switchBridge} type bridge forward_delay 0`,
    `link set ${switchBridge} mtu ${options.underlayMtu} up`,
  ]);
  await plugIn(options, internet, 'internet', internetAddress);
  await plugIn(options, namespaceOf(options.name, { kind: 'etcd' }), 'etcd', etcdAddress);
  // What lies behind the internet is one more address of it, from which it also answers. It knows no way back to the
  // overlay: only masqueraded packets are answered.
  await ipInside(internet, [
    `addr add ${farAddress}/32 dev lo`,
    `route replace ${formatPrefix(underlayNetwork)} dev eth0 src ${farAddress}`,
  ]);
}

/** Makes a host's machine: its link to the switch, the default route to the internet, forwarding switched on. */
export async function plugInHost(options: LabOptions, host: string, address: string): Promise<void> {
  const namespace = namespaceOf(options.name, { kind: 'host', host });
  await plugIn(options, namespace, host, address);
  await ipInside(namespace, [`route add default via ${internetAddress}`]);
  await setSysctls(namespace, '1', ['ipv4/ip_forward']);
}

/** Gives a host another address on the underlay, as DHCP or its operator would. */
export async function changeHostAddress(options: LabOptions, host: string, from: string, to: string): Promise<void> {
  await ipInside(namespaceOf(options.name, { kind: 'host', host }), [
    `addr delete ${onUnderlay(from)} dev eth0`,
    `addr add ${onUnderlay(to)} dev eth0`,
    `route replace default via ${internetAddress}`,
  ]);
}

/** Pulls a host's plug at once; the kernel takes its time to remove the links of a deleted namespace. */
export async function unplugHost(options: LabOptions, host: string): Promise<void> {
  const argv = ['ip', '-n', namespaceOf(options.name, { kind: 'switch' }), 'link', 'delete', host];
  await exec(argv, { tolerate: true });
}

/** A veth pair from inside the namespace to a port of the switch: the root namespace never sees either end. */
async function plugIn(options: LabOptions, namespace: string, port: string, address: string): Promise<void> {
  const switchNamespace = namespaceOf(options.name, { kind: 'switch' });
  await ipInside(namespace, [
    'link set lo up',
    `link add eth0 mtu ${options.underlayMtu} address ${macOf(address)} type veth ` +
      `peer name ${port} mtu ${options.underlayMtu} netns ${switchNamespace}`,
    `addr add ${onUnderlay(address)} dev eth0`,
  ]);
  await ipInside(switchNamespace, [`link set ${port} master ${switchBridge} up`]);
  await ipInside(namespace, ['link set eth0 up']);
}
