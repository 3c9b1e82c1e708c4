import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type ForwardingJson,
  forwardingChanges,
  type NeighbourJson,
  neighbourChanges,
  neighbourMacs,
  settleClaims,
  type TunnelPeer,
} from '../../../src/backend/vxlan/peer-entries.js';
import {
  type Address,
  type AnyPrefix,
  formatAddress,
  formatAnyPrefix,
  parseAddress,
  prefixContains,
} from '../../../src/base/address.js';
import { families } from '../../support/families.js';

describe.each(families)('IPv$family', ({ say, prefix, address }) => {
  const device = say('flannel.1');
  const networks = [prefix('10.5.0.0/16')];
  const mac = (number: number) => `02:00:00:00:00:${number.toString(16).padStart(2, '0')}`;
  const peer = (number: number, host = number, macNumber = host): TunnelPeer => ({
    subnet: prefix(`10.5.${number}.0/24`),
    publicIp: address(`192.0.2.${host}`),
    mac: mac(macNumber),
  });
  const commands = (changes: readonly { command: string }[]) => changes.map(({ command }) => command);
  const nothingOurs: ReadonlySet<string> = new Set();

  describe('neighbours', () => {
    it('are made, corrected and removed; foreign ones stay', () => {
      const present = say([
        { dst: '10.5.2.0', lladdr: mac(2) },
        { dst: '10.5.3.0', lladdr: mac(99) },
        { dst: '10.5.4.0', lladdr: mac(4) },
        { dst: '198.51.100.1', lladdr: mac(50) },
      ]);
      const { set, remove } = neighbourChanges(device, [peer(1), peer(2), peer(3)], present, networks);
      expect(commands(set)).toEqual(
        say([
          'neigh replace 10.5.1.0 lladdr 02:00:00:00:00:01 dev flannel.1 nud permanent',
          'neigh replace 10.5.3.0 lladdr 02:00:00:00:00:03 dev flannel.1 nud permanent',
        ]),
      );
      expect(commands(remove)).toEqual(say(['neigh del 10.5.4.0 dev flannel.1']));
    });
  });

  describe('forwarding entries', () => {
    const entry = (number: number, dst: string, extra: Partial<ForwardingJson> = {}): ForwardingJson => ({
      mac: mac(number),
      dst,
      flags: ['self'],
      state: 'permanent',
      ...extra,
    });

    it('are made, corrected and removed; foreign ones stay', () => {
      const present = say([
        entry(2, '192.0.2.2'),
        entry(3, '192.0.2.99'),
        entry(4, '192.0.2.4'),
        entry(50, '192.0.2.50'),
        entry(0, '192.0.2.60'),
      ]);
      const changes = forwardingChanges(device, [peer(1), peer(2), peer(3)], present, new Set([mac(2), mac(4)]));
      expect(commands(changes)).toEqual(
        say([
          'fdb replace 02:00:00:00:00:01 dev flannel.1 dst 192.0.2.1 self permanent',
          'fdb replace 02:00:00:00:00:03 dev flannel.1 dst 192.0.2.3 self permanent',
          'fdb del 02:00:00:00:00:04 dev flannel.1 self',
        ]),
      );
    });

    it.each<Partial<ForwardingJson>>([{ state: 'reachable' }, { port: 4789 }, { vni: 7 }, { viaIf: 'eth1' }])(
      'with %j are corrected',
      (extra) => {
        const changes = forwardingChanges(device, [peer(1)], [say(entry(1, '192.0.2.1', extra))], nothingOurs);
        expect(commands(changes)).toEqual(
          say(['fdb replace 02:00:00:00:00:01 dev flannel.1 dst 192.0.2.1 self permanent']),
        );
      },
    );

    it('are ours when a neighbour of the overlay has their MAC', () => {
      const neighbours = say([
        { dst: '10.5.4.0', lladdr: mac(4).toUpperCase() },
        { dst: '198.51.100.1', lladdr: mac(50) },
        { dst: '10.5.5.0' },
      ]);
      expect([...neighbourMacs(neighbours, networks)]).toEqual([mac(4)]);
    });
  });

  describe('claims', () => {
    it('of one host to two subnets are fine', () => {
      expect(settleClaims([peer(1), peer(2, 1)]).refused.size).toBe(0);
    });

    it('of two hosts to one MAC are settled for the newer', () => {
      const settled = settleClaims([peer(1, 1, 9), peer(2, 2, 9)]);
      expect(settled.peers.map(({ subnet }) => formatAnyPrefix(subnet))).toEqual(say(['10.5.2.0/24']));
      expect([...settled.refused]).toEqual(
        say([['10.5.1.0/24', 'the newer lease of 192.0.2.2 has its VtepMAC 02:00:00:00:00:09']]),
      );
    });

    it('to subnets with one first address are settled for the newer', () => {
      const wide = { ...peer(1), subnet: prefix('10.5.2.0/23') };
      const settled = settleClaims([wide, peer(2)]);
      expect(settled.peers).toEqual([peer(2)]);
      expect([...settled.refused.keys()]).toEqual(say(['10.5.2.0/23']));
    });
  });

  describe('whatever the device knows', () => {
    const peers = fc
      .uniqueArray(fc.tuple(fc.nat(255), fc.nat(20), fc.nat(20)), { selector: ([subnet]) => subnet, maxLength: 20 })
      .map((tuples) => tuples.map(([subnet, host, macNumber]) => peer(subnet, host + 1, macNumber + 1)));
    const neighbours = fc.uniqueArray(
      fc.record({
        dst: fc.oneof(
          fc.nat(255).map((n) => say(`10.5.${n}.0`)),
          fc.nat(255).map((n) => say(`198.51.100.${n}`)),
        ),
        lladdr: fc.integer({ min: 1, max: 30 }).map(mac),
      }),
      { selector: ({ dst }) => dst },
    );
    const entries = fc.uniqueArray(
      fc.record({
        mac: fc.integer({ min: 1, max: 40 }).map(mac),
        dst: fc.nat(30).map((n) => say(`192.0.2.${n}`)),
        state: fc.constantFrom('permanent', 'reachable'),
      }),
      { selector: (one) => one.mac },
    );

    /** What `ip` and `bridge` would make of the commands. */
    function carryOut(
      lines: readonly string[],
      neighbourTable: Map<string, string>,
      database: Map<string, ForwardingJson>,
    ) {
      for (const line of lines) {
        const words = line.split(' ');
        const [object, verb, key = ''] = words;
        const word = (name: string) => words[words.indexOf(name) + 1] as string;
        const table: Map<string, unknown> = object === 'neigh' ? neighbourTable : database;
        if (verb === 'del') expect(table.delete(key), line).toBe(true);
        else if (object === 'neigh') neighbourTable.set(key, word('lladdr'));
        else database.set(key, { mac: key, dst: word('dst'), state: 'permanent' });
      }
    }

    it('becomes what the peers need, once, and what is foreign stays', () => {
      fc.assert(
        fc.property(peers, neighbours, entries, (announced, presentNeighbours, presentEntries) => {
          const settled = settleClaims(announced).peers;
          const ours = neighbourMacs(presentNeighbours, networks);
          const { set, remove } = neighbourChanges(device, settled, presentNeighbours, networks);
          const forwarding = forwardingChanges(device, settled, presentEntries, ours);
          const neighbourTable = new Map(presentNeighbours.map(({ dst, lladdr }) => [dst, lladdr]));
          const database = new Map<string, ForwardingJson>(presentEntries.map((one) => [one.mac, one]));
          carryOut(commands([...forwarding, ...set, ...remove]), neighbourTable, database);

          for (const { subnet, mac: theirs, publicIp } of settled) {
            expect(neighbourTable.get(formatAddress(subnet.address))).toBe(theirs);
            expect(database.get(theirs)).toMatchObject({ dst: formatAddress(publicIp), state: 'permanent' });
          }
          const needed = new Set(settled.map(({ mac: theirs }) => theirs));
          for (const one of presentNeighbours) {
            if (!prefixContains(networks[0] as AnyPrefix, parseAddress(one.dst) as Address))
              expect(neighbourTable.get(one.dst)).toBe(one.lladdr);
          }
          for (const one of presentEntries) {
            if (!ours.has(one.mac) && !needed.has(one.mac)) expect(database.get(one.mac)).toEqual(one);
          }
          const after: NeighbourJson[] = [...neighbourTable].map(([dst, lladdr]) => ({ dst, lladdr }));
          const again = neighbourChanges(device, settled, after, networks);
          expect([...again.set, ...again.remove]).toEqual([]);
          expect(forwardingChanges(device, settled, [...database.values()], ours)).toEqual([]);
        }),
      );
    });
  });
});
