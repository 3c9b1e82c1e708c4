import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Address,
  type AnyPrefix,
  formatAnyPrefix,
  parseAddress,
  parseAnyPrefix,
} from '../../../src/base/address.js';
import type { RouteJson } from '../../../src/routes/ip.js';
import {
  deletion,
  type InstalledRoute,
  installedRoute,
  isOurs,
  type Leftovers,
  looksLikeFlannels,
  ROUTE_PROTOCOL,
  type RouteOwnership,
  routeDifference,
  type WantedRoute,
} from '../../../src/routes/route-table.js';
import { families } from '../../support/families.js';

describe.each(families)('IPv$family', ({ family, say, prefix, address, metric, metricWords }) => {
  const tunnel = say('flannel.1');
  const ownership: RouteOwnership = {
    networks: [prefix('10.5.0.0/16')],
    ownDevice: tunnel,
    underlay: 'eth0',
    subnetLength: family === 4 ? 24 : 64,
  };
  const direct = (number: number, host = number): WantedRoute => ({
    destination: prefix(`10.5.${number}.0/24`),
    gateway: address(`192.0.2.${host}`),
    device: 'eth0',
    protocol: ROUTE_PROTOCOL,
  });
  const tunnelled = (number: number): WantedRoute => {
    const destination = prefix(`10.5.${number}.0/24`);
    return { destination, gateway: destination.address, onlink: true, device: tunnel, protocol: ROUTE_PROTOCOL };
  };
  const installed = (json: RouteJson): InstalledRoute =>
    installedRoute(say({ ...json, metric: json.metric || metric }), family)[0] as InstalledRoute;
  const ours = { dst: '10.5.2.0/24', gateway: '192.0.2.2', dev: 'eth0', protocol: ROUTE_PROTOCOL };
  const flannels = { ...ours, protocol: 'boot' };
  const expected = (...lines: string[]) =>
    lines.map((line) => say(line.startsWith('route del') && !line.includes('metric') ? `${line}${metricWords}` : line));
  const difference = (wanted: WantedRoute[], present: RouteJson[], leftovers: Leftovers = 'ours') => {
    const { changes, obstacles } = routeDifference(wanted, present.map(installed), ownership, leftovers);
    return { commands: changes.map(({ command }) => command), texts: changes.map(({ text }) => text), obstacles };
  };

  describe('routes to peers', () => {
    it('are added with the mark by which they are known again', () => {
      expect(difference([direct(2), tunnelled(3)], []).commands).toEqual(
        expected(
          'route add 10.5.2.0/24 via 192.0.2.2 dev eth0 proto 84',
          'route add 10.5.3.0/24 via 10.5.3.0 dev flannel.1 onlink proto 84',
        ),
      );
    });

    it('that no known peer has stay while there may be others', () => {
      expect(difference([], [ours, flannels], 'none').commands).toEqual([]);
      expect(difference([direct(3)], [ours], 'none').commands).toEqual(
        expected('route add 10.5.3.0/24 via 192.0.2.3 dev eth0 proto 84'),
      );
    });

    it('that are there are left alone', () => {
      const present = [
        ours,
        { dst: '10.5.3.0/24', gateway: '10.5.3.0', dev: tunnel, protocol: '84', flags: ['onlink'] },
      ];
      expect(difference([direct(2), tunnelled(3)], present).commands).toEqual([]);
    });

    it("take the place of flannel's without a word when only the mark is missing", () => {
      const { commands, texts } = difference([direct(2)], [flannels]);
      expect(commands).toEqual(expected('route replace 10.5.2.0/24 via 192.0.2.2 dev eth0 proto 84'));
      expect(texts).toEqual(['']);
    });

    it('follow a peer to another address, and into the tunnel: by IPv4 without a gap', () => {
      expect(difference([direct(2, 7)], [ours])).toMatchObject(
        say({
          commands: ['route replace 10.5.2.0/24 via 192.0.2.7 dev eth0 proto 84'],
          texts: ['changed the route to 10.5.2.0/24: via 192.0.2.7 through eth0 instead of via 192.0.2.2 through eth0'],
        }),
      );
      // by IPv6 the kernel refuses a gateway that the old route leads to
      const verb = family === 4 ? 'replace' : 'add';
      expect(difference([tunnelled(2)], [ours]).commands).toEqual(
        expected(
          ...(family === 4 ? [] : ['route del 10.5.2.0/24 via 192.0.2.2 dev eth0 proto 84']),
          `route ${verb} 10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink proto 84`,
        ),
      );
    });

    it('that no lease backs are removed when they are ours', () => {
      expect(difference([], [ours, { ...ours, dst: '10.5.3.0/24', metric: 20 }]).commands).toEqual(
        expected(
          'route del 10.5.2.0/24 via 192.0.2.2 dev eth0 proto 84',
          'route del 10.5.3.0/24 via 192.0.2.2 dev eth0 proto 84 metric 20',
        ),
      );
    });

    it("that no lease backs are removed at the start when they look like flannel's", () => {
      expect(difference([], [flannels], 'ours').commands).toEqual([]);
      expect(difference([], [flannels], 'any').commands).toEqual(
        expected('route del 10.5.2.0/24 via 192.0.2.2 dev eth0 proto boot'),
      );
    });

    it.each<[string, RouteJson]>([
      ['outside the overlay', { ...flannels, dst: '10.6.2.0/24' }],
      ['of another length', { ...flannels, dst: '10.5.2.0/25' }],
      ['through another device', { ...flannels, dev: 'eth1' }],
      ['with a metric', { ...flannels, metric: 100 }],
      ['of an administrator', { ...flannels, protocol: 'static' }],
      ['of the kernel', { dst: '10.5.2.0/24', dev: 'cni0', protocol: 'kernel', prefsrc: '10.5.2.1' }],
      ['with a preferred source', { ...flannels, prefsrc: '192.0.2.1' }],
      ['without a gateway', { dst: '10.5.2.0/24', dev: 'eth0', protocol: 'boot' }],
      ['to a gateway in the overlay', { ...flannels, gateway: '10.5.9.1' }],
      ['that are blackholes', { type: 'blackhole', dst: '10.5.2.0/24', protocol: 'boot' }],
      ['that are ours by mark, but outside the overlay', { ...ours, dst: '10.6.2.0/24' }],
    ])('%s are never touched', (_name, route) => {
      expect(difference([], [route], 'any').commands).toEqual([]);
      const wanted = { ...direct(2), destination: prefix(route.dst) };
      const { commands, obstacles } = difference([wanted], [route], 'any');
      if (route.metric === undefined) {
        expect(commands).toEqual([]);
        expect([...obstacles.values()].join()).toMatch(/is there already; remove it$/);
      } else expect(commands).toHaveLength(1);
    });

    it('say through what a foreign route leads', () => {
      const { obstacles } = difference([direct(2)], [{ dst: '10.5.2.0/24', dev: 'cni0', protocol: 'kernel' }]);
      expect([...obstacles]).toEqual(say([['10.5.2.0/24', 'a route through cni0 is there already; remove it']]));
    });
  });

  describe('whatever routes there are', () => {
    const json = fc.record({
      dst: fc.nat(12).map((number) => `10.${number > 9 ? 6 : 5}.${number}.0/24`),
      gateway: fc.constantFrom('192.0.2.2', '192.0.2.3', '10.5.3.0'),
      dev: fc.constantFrom('eth0', 'eth1', tunnel),
      protocol: fc.constantFrom('boot', 'static', 'kernel', ROUTE_PROTOCOL),
      metric: fc.constantFrom(0, 100),
      flags: fc.constantFrom([], ['onlink']),
    });
    const key = ({ destination, metric }: InstalledRoute) => `${formatAnyPrefix(destination)} ${metric}`;
    const tables = fc.uniqueArray(json.map(installed), { selector: key });
    const wanted = fc.uniqueArray(
      fc.oneof(
        fc.nat(9).map((number) => direct(number, 9)),
        fc.nat(9).map((number) => tunnelled(number)),
      ),
      { selector: ({ destination }) => destination.address },
    );

    /** What the kernel would make of the commands; it refuses to add what is there, and to remove what is not. */
    function carryOut(table: readonly InstalledRoute[], commands: readonly string[]): InstalledRoute[] {
      const routes = new Map(table.map((route) => [key(route), route]));
      for (const command of commands) {
        const words = command.split(' ');
        const word = (name: string) => (words.includes(name) ? words[words.indexOf(name) + 1] : undefined);
        const route: InstalledRoute = {
          destination: parseAnyPrefix(words[2] as string) as AnyPrefix,
          gateway: parseAddress(word('via') ?? '') as Address,
          device: word('dev') as string,
          protocol: word('proto') as string,
          metric: Number(word('metric') ?? metric),
          type: 'unicast',
          onlink: words.includes('onlink'),
        };
        const present = routes.get(key(route));
        if (words[1] === 'del') {
          expect(present, command).toMatchObject({
            gateway: route.gateway,
            device: route.device,
            protocol: route.protocol,
          });
          routes.delete(key(route));
        } else {
          expect(present === undefined, command).toBe(words[1] === 'add');
          routes.set(key(route), route);
        }
      }
      return [...routes.values()];
    }

    it('they become those of the peers, at once, and what is foreign stays', () => {
      fc.assert(
        fc.property(wanted, tables, fc.constantFrom<Leftovers[]>('none', 'ours', 'any'), (peers, before, leftovers) => {
          const { changes, obstacles } = routeDifference(peers, before, ownership, leftovers);
          const after = carryOut(
            before,
            changes.map(({ command }) => command),
          );
          const find = (text: string) =>
            after.find((route) => formatAnyPrefix(route.destination) === text && route.metric === metric);
          for (const peer of peers) {
            const text = formatAnyPrefix(peer.destination);
            const route = find(text) as InstalledRoute;
            if (obstacles.has(text)) expect(isOurs(route, ownership)).toBe(false);
            else expect(route).toMatchObject({ gateway: peer.gateway, device: peer.device, protocol: ROUTE_PROTOCOL });
          }
          const texts = new Set(peers.map(({ destination }) => formatAnyPrefix(destination)));
          for (const route of before) {
            if (leftovers === 'none' && !texts.has(formatAnyPrefix(route.destination)))
              expect(after).toContainEqual(route);
            if (!isOurs(route, ownership) && !looksLikeFlannels(route, ownership)) expect(after).toContainEqual(route);
          }
          for (const route of after) {
            if (leftovers !== 'none' && isOurs(route, ownership))
              expect(texts).toContain(formatAnyPrefix(route.destination));
          }
          expect(routeDifference(peers, after, ownership, leftovers).changes).toEqual([]);
        }),
      );
    });

    it('one is removed by a command that names it and no other', () => {
      fc.assert(
        fc.property(tables, (table) => {
          for (const route of table) {
            expect(carryOut(table, [deletion(route)])).toEqual(table.filter((one) => one !== route));
          }
        }),
      );
    });
  });
});
