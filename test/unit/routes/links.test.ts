import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatPrefix, type Prefix, parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import { parseBatchErrors, type RouteJson } from '../../../src/routes/ip.js';
import {
  type InstalledRoute,
  installedRoute,
  type LinkState,
  linkRepairs,
  linkState,
  type Route,
  routeRepairs,
  type WantedLink,
} from '../../../src/routes/links.js';

const prefix = (text: string) => parsePrefix(text) as Prefix;
const network = prefix('10.5.0.0/16');
const former = prefix('10.9.0.0/16');

const wanted: WantedLink = {
  name: 'flannel0',
  mtu: 1472,
  txQueueLength: 1000,
  address: prefix('10.5.8.0/32'),
  networks: [network, former],
  routes: [{ destination: network }],
};

const right: LinkState = {
  name: 'flannel0',
  index: 7,
  up: true,
  mtu: 1472,
  txQueueLength: 1000,
  kind: 'tun',
  hardwareAddress: '',
  addresses: [prefix('10.5.8.0/32')],
};

const rightRoutes = installedRoute({ dst: '10.5.0.0/16', dev: 'flannel0', protocol: 'boot', scope: 'link' });

const commands = (state: Partial<LinkState>, routes: readonly InstalledRoute[] = rightRoutes) =>
  linkRepairs(wanted, { ...right, ...state }, routes).map(({ command }) => command);

describe('a link', () => {
  it('that is right needs nothing', () => {
    expect(commands({})).toEqual([]);
  });

  it('that is bare gets everything, the route last', () => {
    expect(commands({ up: false, mtu: 1500, txQueueLength: 500, addresses: [] }, [])).toEqual([
      'address add 10.5.8.0/32 scope global dev flannel0',
      'link set dev flannel0 mtu 1472',
      'link set dev flannel0 txqueuelen 1000',
      'link set dev flannel0 up',
      'route add 10.5.0.0/16 dev flannel0',
    ]);
  });

  it('loses addresses of former subnets, and keeps those of others', () => {
    const addresses = ['10.5.8.0/32', '10.5.3.0/32', '10.9.4.0/32', '169.254.1.1/16'].map(prefix);
    expect(commands({ addresses })).toEqual([
      'address del 10.5.3.0/32 dev flannel0',
      'address del 10.9.4.0/32 dev flannel0',
    ]);
  });

  it('loses routes into former networks, and keeps those of others', () => {
    const routes = [
      { dst: '10.9.0.0/16', dev: 'flannel0', protocol: 'boot' },
      { dst: '10.5.3.0/24', dev: 'flannel0', gateway: '10.5.3.0', flags: ['onlink'], metric: 5 },
      { dst: '10.5.8.0/24', dev: 'flannel0', protocol: 'kernel' },
      { dst: '10.0.0.0/8', dev: 'flannel0' },
      { dst: '192.0.2.7', dev: 'flannel0' },
      { dst: '10.5.4.0/24', dev: 'eth0' },
    ].flatMap(installedRoute);
    expect(commands({}, [...rightRoutes, ...routes])).toEqual([
      'route del 10.9.0.0/16 dev flannel0',
      'route del 10.5.3.0/24 dev flannel0 metric 5',
    ]);
  });

  it('is read from ip -json', () => {
    const state = linkState({
      ifindex: 7,
      ifname: 'flannel0',
      flags: ['POINTOPOINT', 'NOARP', 'UP'],
      mtu: 1472,
      txqlen: 1000,
      linkinfo: { info_kind: 'tun' },
      addr_info: [
        { family: 'inet', local: '10.5.8.0', prefixlen: 32, scope: 'global' },
        { family: 'inet6', local: 'fe80::1', prefixlen: 64, scope: 'link' },
      ],
    });
    expect(state).toEqual(right);
  });
});

describe('routes', () => {
  const overlay: Route[] = [
    { destination: prefix('10.5.3.0/24'), gateway: parseIpv4('10.5.3.0') as number, onlink: true },
    { destination: prefix('10.5.4.0/24'), gateway: parseIpv4('192.0.2.4') as number },
  ];
  const repair = (...present: RouteJson[]) =>
    routeRepairs('flannel.1', overlay, [network], present.flatMap(installedRoute)).map(({ command }) => command);

  it('are added, corrected and left alone', () => {
    const first = { dst: '10.5.3.0/24', gateway: '10.5.3.0', dev: 'flannel.1', flags: ['onlink', 'linkdown'] };
    const second = { dst: '10.5.4.0/24', gateway: '192.0.2.4', dev: 'flannel.1' };
    expect(repair(first, second)).toEqual([]);
    expect(repair(second)).toEqual(['route add 10.5.3.0/24 via 10.5.3.0 dev flannel.1 onlink']);
    expect(repair({ ...first, flags: [] }, { ...second, gateway: '192.0.2.9' })).toEqual([
      'route replace 10.5.3.0/24 via 10.5.3.0 dev flannel.1 onlink',
      'route replace 10.5.4.0/24 via 192.0.2.4 dev flannel.1',
    ]);
    expect(repair(first, { ...second, dev: 'eth0' })).toEqual(['route add 10.5.4.0/24 via 192.0.2.4 dev flannel.1']);
  });

  it('settle: once repaired, nothing is left to repair, and what is foreign was never named', () => {
    const subnet = fc.integer({ min: 0, max: 30 }).map((number) => prefix(`10.5.${number}.0/24`));
    const gateway = fc.integer({ min: 1, max: 3 }).map((number) => parseIpv4(`192.0.2.${number}`) as number);
    const routes = fc.uniqueArray(fc.record({ destination: subnet, gateway }), {
      selector: ({ destination }) => destination.address,
    });
    fc.assert(
      fc.property(routes, routes, (want, have) => {
        const installed = have.map((route) => ({
          ...route,
          device: 'd',
          type: 'unicast',
          protocol: 'boot',
          metric: 0,
        }));
        const table = new Map(installed.map((route) => [formatPrefix(route.destination), route]));
        for (const { command } of routeRepairs('d', want, [network], installed)) {
          const [, verb, destination] = command.split(' ') as [string, string, string];
          if (verb === 'add') expect(table.has(destination)).toBe(false);
          else expect(table.has(destination)).toBe(true);
          const route = want.find((one) => formatPrefix(one.destination) === destination);
          if (verb === 'del') table.delete(destination);
          else if (route)
            table.set(destination, { ...route, device: 'd', type: 'unicast', protocol: 'boot', metric: 0 });
        }
        expect(new Set(table.keys())).toEqual(new Set(want.map(({ destination }) => formatPrefix(destination))));
        expect(routeRepairs('d', want, [network], [...table.values()])).toEqual([]);
      }),
    );
  });

  it('of several next hops are nobody’s business here', () => {
    expect(installedRoute({ dst: '10.5.0.0/16', nexthops: [{ dev: 'a' }, { dev: 'b' }] })).toEqual([]);
    expect(installedRoute({ dst: 'default', gateway: '192.0.2.1', dev: 'eth0' })).toMatchObject([
      { destination: { address: 0, length: 0 }, device: 'eth0' },
    ]);
  });
});

describe('a batch', () => {
  it('tells which lines were refused, and why', () => {
    const stderr =
      'RTNETLINK answers: File exists\nCommand failed -:2\nError: Nexthop has invalid gateway.\nCommand failed -:3\n';
    expect(parseBatchErrors(stderr, ['a', 'b', 'c'])).toEqual([
      { line: 'b', error: 'RTNETLINK answers: File exists' },
      { line: 'c', error: 'Error: Nexthop has invalid gateway.' },
    ]);
    expect(parseBatchErrors('', ['a'])).toEqual([]);
  });
});
