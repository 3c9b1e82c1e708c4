/** The matrix of backends and families, each a lab with its own namespaces, as its users see it. */
import { isIPv6 } from 'node:net';
import { describe, expect, it } from 'vitest';
import { containerAddresses } from '../../../src/lab/containers.js';
import { daemonStatus, readSubnet } from '../../../src/lab/daemon.js';
import type { Lab } from '../../../src/lab/lab.js';
import { formatMatrix } from '../../../src/lab/matrix.js';
import { type FamilyChoice, familiesOf, farAddress, farAddressV6, type LabOptions } from '../../../src/lab/options.js';
import { patient } from '../../../src/lab/patience.js';
import type { HostState } from '../../../src/lab/state.js';
import { waitFor } from '../../../src/lab/wait.js';
import { useLab } from '../support/lab.js';

type Kind = LabOptions['backend'];

interface Combination {
  readonly ipFamilies: FamilyChoice;
  readonly underlayFamily: FamilyChoice;
  /** Whether traffic passes is all that is asked: the rest is the same as in a combination that is looked at closely. */
  readonly passing?: boolean;
  /** Backend's options. */
  readonly options?: Readonly<Record<string, unknown>>;
}

/** What every backend can carry over what; IPv4 over IPv4 alone is tested by the labs of other files. */
const common: readonly Combination[] = [
  { ipFamilies: 'dual', underlayFamily: 'dual' },
  { ipFamilies: 'ipv6', underlayFamily: 'ipv6' },
  { ipFamilies: 'ipv6', underlayFamily: 'dual', passing: true },
  { ipFamilies: 'ipv4', underlayFamily: 'dual', passing: true },
];
const combinations: Readonly<Record<Kind, readonly Combination[]>> = {
  'host-gw': common,
  // with a mode it has one device for both families, which carries either by either
  wireguard: [
    ...common,
    { ipFamilies: 'dual', underlayFamily: 'dual', options: { Mode: 'ipv6' } },
    { ipFamilies: 'dual', underlayFamily: 'ipv4', passing: true, options: { Mode: 'ipv4' } },
    { ipFamilies: 'dual', underlayFamily: 'ipv6', passing: true, options: { Mode: 'auto' } },
    { ipFamilies: 'ipv6', underlayFamily: 'dual', passing: true, options: { Mode: 'auto' } },
  ],
  vxlan: [...common, { ipFamilies: 'dual', underlayFamily: 'dual', passing: true, options: { DirectRouting: true } }],
  // carries either family over either
  udp: [
    ...common,
    { ipFamilies: 'dual', underlayFamily: 'ipv4', passing: true },
    { ipFamilies: 'dual', underlayFamily: 'ipv6', passing: true },
    { ipFamilies: 'ipv6', underlayFamily: 'ipv4', passing: true },
  ],
};

/** Checks every second instead of every five. */
export const daemonArgs = ['--iptables-resync=1'];

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

/** The labs of a backend, each in turn; a file for each backend, so that several run side by side. */
export function testFamilies(backend: Kind): void {
  for (const combination of combinations[backend]) {
    const { ipFamilies, underlayFamily, options } = combination;
    const words = options === undefined ? '' : `, ${JSON.stringify(options)}`;
    describe(`a lab of two hosts: ${backend}, ${ipFamilies} over ${underlayFamily}${words}`, () =>
      testCombination(backend, combination));
  }
}

function testCombination(backend: Kind, { ipFamilies, underlayFamily, passing = false, options }: Combination): void {
  const families = familiesOf(ipFamilies);
  /** The others have a route for the whole network, and forward no more when their daemon has ended. */
  const byPeer = backend === 'vxlan' || backend === 'host-gw';
  const networkConfig = options === undefined ? {} : { Backend: options };
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
      const isOwn = (address: unknown) => addresses.includes(String(address));
      const lease = leases.find((one) => isOwn(one.PublicIP) || isOwn(one.PublicIPv6));
      // As flannel's, a lease of udp names no backend.
      expect(lease?.BackendType, name).toBe(backend === 'udp' ? undefined : backend);
      const told = options?.Mode === undefined ? families : familiesOf(underlayFamily);
      const addressV6 = told.includes(6) ? addresses.find(isIPv6) : undefined;
      expect(lease?.PublicIPv6 ?? null).toBe(addressV6 ?? null);
      if (backend === 'wireguard') {
        const PublicKey = expect.stringMatching(/^[A-Za-z0-9+/]{43}=$/);
        const Port = options?.Mode === undefined ? 51_821 : 51_820;
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

  if (backend === 'udp')
    it('drops none of it', async () => {
      for (const { name } of lab().hosts) {
        const status = await daemonStatus(lab().files, name);
        const dropped = Object.entries(status?.backend?.drops ?? {}).filter(([, count]) => count > 0);
        // what the kernel says on every device of its own accord, and what came before the other host was known
        const expected = ['tx_multicast_or_link_local', 'tx_no_route_yet'];
        expect(dropped.filter(([reason]) => !expected.includes(reason))).toEqual([]);
      }
    });

  if (options?.DirectRouting)
    it('has plain routes to a peer on its own link, of both families', async () => {
      const [, { addresses }] = lab().hosts as readonly [HostState, HostState];
      const vias = (await peerRoutes(lab(), 'host1')).map((route) => /via (\S+) dev eth0/.exec(route)?.[1]);
      expect(vias).toEqual(addresses);
    });

  if (passing) return;

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
    if (byPeer || (backend === 'wireguard' && options === undefined))
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
        // written when the backend carries what it can again
        const told = async () => (await readSubnet(lab().files, 'host1')).gateways.length;
        await waitFor('its subnet file to be without IPv6', async () => (await told()) === 1);
        expect(await reached()).toEqual([true, false]);
        await lab().exec('host1', ['ip', 'address', 'add', `${address}/64`, 'dev', 'eth0', 'nodad']);
        await waitFor('the other host to know again', async () => (await refused()) === 0);
        if (byPeer) await waitFor('its routes', async () => (await peerRoutes(lab(), 'host1')).length === 2);
        await waitFor('both families to pass', async () => (await reached()).every(Boolean));
        await waitFor('its subnet file to have both', async () => (await told()) === 2);
      });

    it('goes on after a start, and where the kernel forwards also while no daemon runs', async () => {
      await lab().stopDaemon('host1', 'SIGKILL');
      if (byPeer) await expectGreen(lab());
      await lab().startDaemon('host1');
      await lab().waitForPeers();
      await expectGreen(lab());
    });
  }
}
