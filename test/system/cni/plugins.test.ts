// Containers by CNI on the subnet that tweed leased: the plugins bridge, host-local and portmap, told what the flannel plugin, which is
// in no Debian package, makes of subnet.env.
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { parseEnvFile } from '../../../src/base/env-file.js';
import { eventually, type TestHost, TestNetwork } from '../daemon/hosts.js';

/** Where Debian has them, or what CNI_PATH says. */
const plugins = process.env.CNI_PATH ?? '/usr/lib/cni';
const cniVersion = '0.4.0';

let network: TestNetwork | undefined;
const namespaces: string[] = [];
const children: ReturnType<typeof spawn>[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const name of namespaces.splice(0)) execFileSync('ip', ['netns', 'del', name]);
  await network?.remove();
  network = undefined;
});

/** A network as the flannel plugin hands it to bridge: its delegate(), by what it is documented to do. */
function delegated(host: TestHost) {
  const variables = parseEnvFile(fs.readFileSync(host.subnetFile, 'utf8'));
  const value = (name: string) => variables.get(`FLANNEL_${name}`) ?? '';
  const [address = '', length = ''] = value('SUBNET').split('/');
  return {
    cniVersion,
    name: 'overlay',
    type: 'bridge',
    bridge: 'cni0',
    isGateway: true,
    ipMasq: value('IPMASQ') !== 'true',
    mtu: Number(value('MTU')),
    ipam: {
      type: 'host-local',
      subnet: `${address.replace(/\d+$/, '0')}/${length}`,
      routes: [{ dst: value('NETWORK') }, { dst: '0.0.0.0/0' }],
      dataDir: `${host.directory}/cni`,
    },
  };
}

/** Runs a plugin in a host's namespace, as a container engine does. */
function call(host: TestHost, container: string, command: 'ADD' | 'DEL', config: { readonly type: string }): string {
  const environment = {
    ...process.env,
    CNI_COMMAND: command,
    CNI_CONTAINERID: container,
    CNI_NETNS: `/var/run/netns/${container}`,
    CNI_IFNAME: 'eth0',
    CNI_PATH: plugins,
  };
  const argv = ['netns', 'exec', host.namespace, `${plugins}/${config.type}`];
  return execFileSync('ip', argv, { encoding: 'utf8', env: environment, input: JSON.stringify(config) });
}

/** A container with an address of the host's subnet. */
function addContainer(host: TestHost) {
  const container = `twcni-${randomBytes(3).toString('hex')}`;
  execFileSync('ip', ['netns', 'add', container]);
  namespaces.push(container);
  const result = JSON.parse(call(host, container, 'ADD', delegated(host))) as { ips: { address: string }[] };
  const address = result.ips[0]?.address.replace(/\/.*/, '') ?? '';
  const run = (...argv: string[]) =>
    execFileSync('ip', ['netns', 'exec', container, ...argv], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  return { container, address, result, run };
}

describe.skipIf(!fs.existsSync(`${plugins}/portmap`))('the plugins of CNI', () => {
  it('make containers that reach each other, with full packets, and publish ports', async () => {
    network = await TestNetwork.create();
    await network.startBoth('-ip-masq');
    const [first, second] = network.hosts;
    for (const host of network.hosts) await host.run('sysctl', '-qw', 'net.ipv4.ip_forward=1');
    const [here, there] = [addContainer(first), addContainer(second)];
    await eventually(() => {
      here.run('ping', '-n', '-c1', '-W1', '-M', 'do', '-s', String(1472 - 28), there.address);
    });
    expect(here.run('ip', 'route')).toContain('100.96.0.0/16 via');

    // Masquerading is tweed's: a container of another host sees the container, not the host.
    const listen = `require('http').createServer((q, r) => r.end(q.socket.remoteAddress)).listen(80, '0.0.0.0')`;
    children.push(spawn('ip', ['netns', 'exec', there.container, process.execPath, '-e', listen], { stdio: 'ignore' }));
    const ask = (url: string) => `fetch('${url}').then((r) => r.text()).then((t) => process.stdout.write(t))`;
    await eventually(() => {
      expect(here.run(process.execPath, '-e', ask(`http://${there.address}/`))).toBe(here.address);
    });

    const portmap = {
      cniVersion,
      name: 'overlay',
      type: 'portmap',
      capabilities: { portMappings: true },
      runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] },
      prevResult: there.result,
    };
    call(second, there.container, 'ADD', portmap);
    expect((await first.get(`http://${second.address}:8080/`))[0]).toBe(200);
    call(second, there.container, 'DEL', portmap);
    call(second, there.container, 'DEL', delegated(second));
    expect(() => here.run('ping', '-n', '-c1', '-W1', there.address)).toThrow();
  });
});
