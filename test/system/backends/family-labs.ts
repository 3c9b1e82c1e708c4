import { isIPv6 } from 'node:net';
import { describe, expect, it } from 'vitest';
import { containerAddresses } from '../../../src/lab/containers.js';
import { daemonStatus, readSubnet } from '../../../src/lab/daemon.js';
import type { Lab } from '../../../src/lab/lab.js';
import { formatMatrix } from '../../../src/lab/matrix.js';
import { type FamilyChoice, familiesOf, farAddress, farAddressV6, type LabOptions } from '../../../src/lab/options.js';
import { patient } from '../../../src/lab/patience.js';
import { waitFor } from '../../../src/lab/wait.js';
import { useLab } from '../support/lab.js';

interface Combination {
  readonly backend: LabOptions['backend'];
  readonly ipFamilies: FamilyChoice;
  readonly underlayFamily: FamilyChoice;
  /** `Backend.Mode` of wireguard. */
  readonly mode?: string;
  /** Not part of the usual suite: only with TWEED_ALL_FAMILIES=1. */
  readonly extra?: boolean;
}

const all = process.env.TWEED_ALL_FAMILIES === '1';

/** What each backend can carry over which underlay; with IPv4 alone, the labs of other files test it. */
const combinations: readonly Combination[] = (['vxlan', 'host-gw', 'udp', 'wireguard'] as const).flatMap(
  (backend): Combination[] => [
    { backend, ipFamilies: 'dual', underlayFamily: 'dual' },
    { backend, ipFamilies: 'ipv6', underlayFamily: 'ipv6' },
    { backend, ipFamilies: 'ipv6', underlayFamily: 'dual', extra: true },
    { backend, ipFamilies: 'ipv4', underlayFamily: 'dual', extra: true },
  ],
);
/** With one device for both families, which carries either by either. */
const oneDevice: readonly Combination[] = [
  { backend: 'wireguard', mode: 'ipv6', ipFamilies: 'dual', underlayFamily: 'dual' },
  { backend: 'wireguard', mode: 'ipv4', ipFamilies: 'dual', underlayFamily: 'ipv4', extra: true },
  { backend: 'wireguard', mode: 'auto', ipFamilies: 'dual', underlayFamily: 'ipv6', extra: true },
  { backend: 'wireguard', mode: 'auto', ipFamilies: 'ipv6', underlayFamily: 'dual', extra: true },
];
const tested = [...combinations, ...oneDevice].filter(({ extra }) => all || extra !== true);

/** Checks every second instead of every five. */
const daemonArgs = ['--iptables-resync=1'];

async function expectGreen(lab: Lab): Promise<void> {
  const result = await lab.test({ transferBytes: 500_000 });
  expect(result.ok, formatMatrix(result)).toBe(true);
  const families = familiesOf(lab.options.ipFamilies);
  expect(result.pairs.map(({ family }) => family).sort()).toEqual([...families, ...families].sort());
}

async function print(lab: Lab, place: string, ...argv: string[]): Promise<string> {
  return (await lab.exec(place, argv)).stdout;
}

/** Routes through a tunnel or to a peer, of both families. */
async function peerRoutes(lab: Lab, host: string): Promise<string[]> {
  const found: string[] = [];
  for (const family of ['-4', '-6']) {
    const lines = (await print(lab, host, 'ip', family, 'route', 'show', 'proto', '84')).split('\n');
    found.push(...lines.map((line) => line.trim()).filter((line) => line !== ''));
  }
  return found;
}

describe.each(tested)('a lab of two hosts: $backend $mode, $ipFamilies over $underlayFamily', (combination) => {
  const { backend, ipFamilies, underlayFamily, mode } = combination;
  const families = familiesOf(ipFamilies);
  /** The others have a route for the whole network, and end with their daemon. */
  const byPeer = backend === 'vxlan' || backend === 'host-gw';
  const networkConfig = mode === undefined ? {} : { Backend: { Mode: mode } };
  const lab = useLab({ backend, ipFamilies, underlayFamily, networkConfig, hosts: 2, containers: 1, daemonArgs });

  it('carries every kind of traffic of every family', () => expectGreen(lab()));

  it('has announced in its leases what flannel reads there', async () => {
    const words = ['get', '--prefix', '/coreos.com/network/', '--print-value-only'];
    const stored = await print(lab(), 'etcd', 'etcdctl', '--endpoints=http://127.0.0.1:2379', ...words);
    // Leases of IPv6 alone lie beside those that flannel reads; the configuration lies there too.
    const values = stored
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const leases = values.filter((value) => 'PublicIP' in value);
    for (const { name, addresses } of lab().hosts) {
      const told = mode === undefined ? families : familiesOf(underlayFamily);
      const own = addresses.filter((address) => told.includes(isIPv6(address) ? 6 : 4));
      const lease = leases.find((one) => own.includes(String(one.PublicIP)) || own.includes(String(one.PublicIPv6)));
      // As flannel's, a lease of udp names no backend.
      expect(lease?.BackendType, name).toBe(backend === 'udp' ? undefined : backend);
      expect(lease?.PublicIPv6 ?? null).toBe(own.find(isIPv6) ?? null);
      if (backend === 'wireguard') {
        const PublicKey = expect.stringMatching(/^[A-Za-z0-9+/]{43}=$/);
        const Port = mode === undefined ? 51_821 : 51_820;
        expect(lease?.BackendData).toEqual(families.includes(4) ? { PublicKey, Port: 51_820 } : undefined);
        expect(lease?.BackendV6Data).toEqual(families.includes(6) ? { PublicKey, Port } : undefined);
      }
      if (backend !== 'vxlan') continue;
      const mac = (device: string) => print(lab(), name, 'cat', `/sys/class/net/${device}/address`);
      if (families.includes(4))
        expect(lease?.BackendData).toEqual({ VNI: 1, VtepMAC: (await mac('flannel.1')).trim() });
      if (families.includes(6)) {
        expect(lease?.BackendV6Data).toEqual({ VNI: 1, VtepMAC: (await mac('flannel-v6.1')).trim() });
      }
    }
  });

  it('masquerades what leaves the overlay, and nothing within', async () => {
    const { udp } = await lab().probe('internet').ports();
    for (const family of families.filter((one) => familiesOf(underlayFamily).includes(one))) {
      const address = family === 4 ? farAddress : farAddressV6;
      const exchange = { address, port: udp, bytes: 100, tries: 3, timeout: patient(1_000) };
      const { seenAs } = await lab().probe('host1/c1').ask('exchange', exchange);
      expect(seenAs).toBe(
        lab()
          .host('host1')
          .addresses.find((one) => isIPv6(one) === (family === 6)),
      );
    }
  });

  if (byPeer)
    it('has its routes back when another program took them away', async () => {
      const before = await peerRoutes(lab(), 'host1');
      expect(before).toHaveLength(families.length);
      for (const family of families) await lab().exec('host1', ['ip', `-${family}`, 'route', 'flush', 'proto', '84']);
      await waitFor(
        'the routes to come back',
        async () => (await peerRoutes(lab(), 'host1')).length === families.length,
      );
      expect(await peerRoutes(lab(), 'host1')).toEqual(before);
      await expectGreen(lab());
    });

  if (ipFamilies === 'dual') {
    if (byPeer)
      it('goes on with one family while a host has lost its address of the other', async () => {
        const [, address = ''] = lab().host('host1').addresses;
        const addresses = containerAddresses(await readSubnet(lab().files, 'host2'), 1);
        const reached = async () => {
          const asked = addresses.map((one) =>
            lab()
              .probe('host1/c1')
              .ask('ping', { address: one, timeout: patient(1_000) }),
          );
          return (await Promise.all(asked)).map(({ received }) => received);
        };
        const refused = async () => (await daemonStatus(lab().files, 'host2'))?.backend?.refused.length;
        await lab().exec('host1', ['ip', 'address', 'del', `${address}/64`, 'dev', 'eth0']);
        await waitFor('the other host to know', async () => (await refused()) === 1);
        expect(await reached()).toEqual([true, false]);
        await lab().exec('host1', ['ip', 'address', 'add', `${address}/64`, 'dev', 'eth0', 'nodad']);
        await waitFor('the other host to know again', async () => (await refused()) === 0);
        await waitFor('its routes', async () => (await peerRoutes(lab(), 'host1')).length === 2);
        expect(await reached()).toEqual([true, true]);
      });

    it('goes on after a start, and where the kernel forwards also while no daemon runs', async () => {
      await lab().stopDaemon('host1', 'SIGKILL');
      if (byPeer) await expectGreen(lab());
      await lab().startDaemon('host1');
      await lab().waitForPeers();
      await expectGreen(lab());
    });
  }
});
