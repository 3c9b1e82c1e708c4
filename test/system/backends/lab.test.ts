import { describe, expect, it } from 'vitest';
import { daemonStatus, readSubnet } from '../../../src/lab/daemon.js';
import type { Lab } from '../../../src/lab/lab.js';
import { formatMatrix } from '../../../src/lab/matrix.js';
import { farAddress, type LabOptions } from '../../../src/lab/options.js';
import { patient } from '../../../src/lab/patience.js';
import { putNetworkConfig } from '../../../src/lab/registry.js';
import { waitFor } from '../../../src/lab/wait.js';
import { useLab } from '../support/lab.js';

type BackendKind = LabOptions['backend'];

/** Checks every second instead of every five. */
const daemonArgs = ['--iptables-resync=1'];

async function expectGreen(lab: Lab): Promise<void> {
  const result = await lab.test({ transferBytes: 500_000 });
  expect(result.ok, formatMatrix(result)).toBe(true);
}

async function ip(lab: Lab, host: string, ...words: string[]): Promise<string> {
  const { stdout } = await lab.exec(host, ['ip', ...words]);
  return stdout.replaceAll(/ +$/gm, '').trimEnd();
}

/** Routes inside the overlay, without the containers' bridge. */
async function overlayRoutes(lab: Lab, host: string): Promise<string[]> {
  const lines = (await ip(lab, host, 'route', 'show', 'root', lab.options.network)).split('\n');
  return lines.filter((line) => line !== '' && !line.includes(' dev br0 '));
}

async function storedLeases(lab: Lab): Promise<string[]> {
  const words = ['get', '--prefix', '/coreos.com/network/subnets/', '--print-value-only'];
  const { stdout } = await lab.exec('etcd', ['etcdctl', '--endpoints=http://127.0.0.1:2379', ...words]);
  return stdout.trim().split('\n').sort();
}

const macOfDevice = async (lab: Lab, host: string, device: string) =>
  JSON.parse(await ip(lab, host, '-json', 'link', 'show', 'dev', device))[0].address as string;

/** What flannel writes for such a backend, byte for byte. */
async function flannelsLease(lab: Lab, host: string, backend: BackendKind): Promise<string> {
  const { address } = lab.host(host);
  if (backend === 'udp') return `{"PublicIP":"${address}","PublicIPv6":null}`;
  if (backend === 'host-gw') return `{"PublicIP":"${address}","PublicIPv6":null,"BackendType":"host-gw"}`;
  const data = `{"VNI":1,"VtepMAC":"${await macOfDevice(lab, host, 'flannel.1')}"}`;
  return `{"PublicIP":"${address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":${data}}`;
}

async function expectFlannelsLeases(lab: Lab, backend: BackendKind): Promise<void> {
  const expected = await Promise.all(lab.hosts.map(({ name }) => flannelsLease(lab, name, backend)));
  expect(await storedLeases(lab)).toEqual(expected.sort());
}

describe.each([
  { backend: 'vxlan', mtu: 1450, device: 'flannel.1' },
  { backend: 'host-gw', mtu: 1500, device: 'eth0' },
] as const)('a lab of three hosts with $backend', ({ backend, mtu, device }) => {
  const lab = useLab({ backend, containers: 1, daemonArgs });

  it('carries every kind of traffic, and its leases are what flannel would write', async () => {
    await expectGreen(lab());
    await expectFlannelsLeases(lab(), backend);
    expect((await readSubnet(lab().files, 'host1')).mtu).toBe(mtu);
    expect(await daemonStatus(lab().files, 'host1')).toMatchObject({
      ready: true,
      backend: { type: backend, device, mtu, peers: [{ txPackets: null }, {}] },
    });
  });

  it('lets containers reach the internet in the name of their host', async () => {
    const { udp } = await lab().probe('internet').ports();
    const exchange = { address: farAddress, port: udp, bytes: 100, tries: 3, timeout: patient(1_000) };
    const answer = await lab().probe('host2/c1').ask('exchange', exchange);
    expect(answer).toMatchObject({ returned: true, seenAs: lab().host('host2').address });
  });

  it('loses no packet while a daemon is killed, away and back', async () => {
    const before = await overlayRoutes(lab(), 'host1');
    const { udp } = await lab().probe('host2/c1').ports();
    const address = await containerAddressOf(lab(), 'host2');
    const probe = lab().probe('host1/c1');
    const { stream } = await probe.ask('startStream', { address, port: udp, bytes: 200, interval: 5 });
    await lab().stopDaemon('host1', 'SIGKILL');
    await expectGreen(lab());
    await lab().startDaemon('host1');
    await lab().waitForPeers();
    const result = await probe.ask('stopStream', { stream, grace: 500 });
    expect(result.sent).toBeGreaterThan(50);
    expect(result.received).toBe(result.sent);
    expect(await overlayRoutes(lab(), 'host1')).toEqual(before);
  });

  it('is mended when things are removed by hand', async () => {
    const before = await overlayRoutes(lab(), 'host3');
    const pid = (await lab().daemonPid('host3')) as number;
    process.kill(pid, 'SIGSTOP'); // or it mends before anybody looks
    try {
      if (backend === 'vxlan') await ip(lab(), 'host3', 'link', 'del', device);
      else await ip(lab(), 'host3', 'route', 'flush', 'root', lab().options.network, 'proto', '84');
      expect(await overlayRoutes(lab(), 'host3')).toEqual([]);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await waitFor('the routes', async () => (await overlayRoutes(lab(), 'host3')).length === before.length);
    expect(await overlayRoutes(lab(), 'host3')).toEqual(before);
    await expectGreen(lab());
    expect((await daemonStatus(lab().files, 'host3'))?.repairs).toBeGreaterThan(0);
  });

  it('follows a host to another address', async () => {
    const address = '192.168.65.200';
    await lab().changeAddress('host2', address);
    const seesIt = async (host: string) => {
      const peers = (await daemonStatus(lab().files, host))?.backend?.peers ?? [];
      return peers.length === 2 && peers.some(({ publicIp }) => publicIp === address);
    };
    await waitFor('the others to see the address', async () => (await seesIt('host1')) && (await seesIt('host3')));
    await lab().waitForPeers();
    await expectGreen(lab());
    await expectFlannelsLeases(lab(), backend);
  });

  it('leaves everything in place when a daemon is stopped, and nothing when it shall clean up', async () => {
    await lab().stopDaemon('host1');
    expect(await overlayRoutes(lab(), 'host1')).toHaveLength(2);
    const { name } = await lab().addHost({ containers: 0, daemonArgs: [...daemonArgs, '--clean-up-on-exit'] });
    await waitFor('its peers', async () => (await overlayRoutes(lab(), name)).length === 3);
    await lab().stopDaemon(name);
    expect(await overlayRoutes(lab(), name)).toEqual([]);
    expect(await ip(lab(), name, '-brief', 'link', 'show', 'type', 'vxlan')).toBe('');
    expect((await lab().exec(name, ['iptables-save'])).stdout).not.toContain('FLANNEL');
  });
});

async function containerAddressOf(lab: Lab, host: string): Promise<string> {
  const { stdout } = await lab.exec(`${host}/c1`, ['ip', '-json', '-4', 'address', 'show', 'dev', 'eth0']);
  return JSON.parse(stdout)[0].addr_info[0].local as string;
}

describe('a change of the backend type', () => {
  const lab = useLab({ backend: 'udp', hosts: 2, containers: 1, daemonArgs });

  it.each(['vxlan', 'host-gw', 'udp', 'host-gw', 'vxlan', 'udp'] as const)(
    'to %s, host by host, leaves nothing of the former one',
    async (backend) => {
      await putNetworkConfig({ ...lab().options, backend }, lab().files);
      for (const { name } of lab().hosts) {
        await lab().stopDaemon(name);
        await lab().startDaemon(name);
      }
      await lab().waitForPeers();
      await expectGreen(lab());
      await expectFlannelsLeases(lab(), backend);
      for (const [index, { name }] of lab().hosts.entries()) {
        const peer = lab().hosts[1 - index]?.name as string;
        const { subnet } = (await daemonStatus(lab().files, peer))?.lease ?? { subnet: '' };
        const gateway = subnet.replace('/24', '');
        const routes = {
          udp: [`${lab().options.network} dev flannel0 scope link`],
          vxlan: [`${subnet} via ${gateway} dev flannel.1 proto 84 onlink`],
          'host-gw': [`${subnet} via ${lab().host(peer).address} dev eth0 proto 84`],
        };
        expect(await overlayRoutes(lab(), name)).toEqual(routes[backend]);
        const devices = await ip(lab(), name, '-brief', 'link', 'show');
        const expected = { udp: ['flannel0'], vxlan: ['flannel.1'], 'host-gw': [] };
        expect(devices.match(/^flannel[^ @]*/gm) ?? []).toEqual(expected[backend]);
      }
    },
  );
});
