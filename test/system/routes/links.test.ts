import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type AnyPrefix, parseAnyPrefix, prefixContains } from '../../../src/base/address.js';
import { type IpTool, ipTool } from '../../../src/routes/ip.js';
import {
  ensureBlackhole,
  ensureLink,
  LinkMissingError,
  readLink,
  removeBlackhole,
  type WantedLink,
} from '../../../src/routes/links.js';
import { findUnderlay } from '../../../src/routes/underlay.js';
import { families } from '../../support/families.js';
import { makeNamespace, type TestNamespace } from './namespace.js';

const batch = async (lines: readonly string[]) => expect((await ip.batchAll(lines)).failures).toEqual([]);
const linkLocal = parseAnyPrefix('fe80::/10') as AnyPrefix;
let host: TestNamespace;
let ip: IpTool;
beforeEach(async () => {
  host = await makeNamespace();
  ip = ipTool(host.run);
});
afterEach(() => host.remove());

describe.each(families)('IPv$family', ({ family, say, prefix }) => {
  const wanted: WantedLink = {
    name: 'flannel0',
    mtu: 1472,
    txQueueLength: 1000,
    addresses: [prefix('10.5.8.0/32')],
    networks: [prefix('10.5.0.0/16'), prefix('10.9.0.0/16')],
    routes: [{ destination: prefix('10.5.0.0/16') }],
  };

  describe('the device', () => {
    beforeEach(() => ip.run('tuntap', 'add', 'flannel0', 'mode', 'tun'));
    /** As IPv4's are printed; without those that the kernel has for each IPv6 address. */
    const routes = async () => {
      const lines = (await host.print('ip', `-${family}`, 'route')).split('\n');
      const scope = family === 4 ? '' : ' scope link';
      const ours = lines.filter((line) => line !== '' && !line.includes('proto kernel'));
      return ours
        .map((line) => line.replaceAll(/ +linkdown| metric 1024| pref medium/g, '').trim() + scope)
        .sort()
        .join('\n');
    };
    const addresses = async () =>
      (await readLink('flannel0', ip))?.addresses.filter(({ address }) => !prefixContains(linkLocal, address));

    it('is set up once, and a second time nothing is done', async () => {
      expect(await ensureLink(wanted, ip)).toHaveLength(5);
      expect(await ensureLink(wanted, ip)).toEqual([]);
      expect(await readLink('flannel0', ip)).toMatchObject({
        up: true,
        mtu: 1472,
        txQueueLength: 1000,
        kind: 'tun',
      });
      expect(await addresses()).toEqual(wanted.addresses);
      const shown = await host.print('ip', `-${family}`, 'address', 'show', 'dev', 'flannel0');
      expect(shown).toContain(say('10.5.8.0/32 scope global'));
      expect(await routes()).toBe(say('10.5.0.0/16 dev flannel0 scope link'));
    });

    it.each([
      ['its address removed', 'address del 10.5.8.0/32 dev flannel0'],
      ['its addresses flushed', 'address flush dev flannel0'],
      ['its route removed', 'route del 10.5.0.0/16'],
      ['it set down', 'link set flannel0 down'],
      ['its MTU changed', 'link set flannel0 mtu 1500'],
      ['its queue changed', 'link set flannel0 txqueuelen 10'],
    ])('comes back with %s', async (_name, vandalism) => {
      await ensureLink(wanted, ip);
      await ip.run(...say(vandalism).split(' '));
      expect((await ensureLink(wanted, ip)).length).toBeGreaterThan(0);
      expect(await ensureLink(wanted, ip)).toEqual([]);
      expect(await routes()).toBe(say('10.5.0.0/16 dev flannel0 scope link'));
    });

    it('loses what a former subnet left on it, and nothing else', async () => {
      await batch(
        say([
          'link set flannel0 up',
          'address add 10.9.8.0/32 dev flannel0',
          'address add 192.0.2.1/32 dev flannel0',
          'route add 10.9.0.0/16 dev flannel0',
          'route add 198.51.100.0/24 dev flannel0',
        ]),
      );
      await ensureLink(wanted, ip);
      expect(new Set(await addresses())).toEqual(new Set([prefix('192.0.2.1/32'), ...wanted.addresses]));
      expect(await routes()).toBe(
        say('10.5.0.0/16 dev flannel0 scope link\n198.51.100.0/24 dev flannel0 scope link')
          .split('\n')
          .sort()
          .join('\n'),
      );
    });

    it('takes no route from another device, whatever its name', async () => {
      await batch(say(['tuntap add flannel1 mode tun', 'link set flannel1 up', 'route add 10.5.0.0/16 dev flannel1']));
      await expect(ensureLink(wanted, ip)).rejects.toThrow('a route through flannel1 is there already; remove it');
      await batch(['link set flannel1 name eth7']);
      await expect(ensureLink(wanted, ip)).rejects.toThrow('a route through eth7 is there already');
      expect(await routes()).toBe(say('10.5.0.0/16 dev eth7 scope link'));
    });

    it('that is gone is told apart', async () => {
      await ip.run('link', 'del', 'flannel0');
      expect(await readLink('flannel0', ip)).toBeNull();
      await expect(ensureLink(wanted, ip)).rejects.toThrow(LinkMissingError);
    });
  });

  describe('the blackhole route', () => {
    const subnet = prefix('10.5.8.0/24');

    it('is made once, does not shadow a bridge, and goes again', async () => {
      expect(await ensureBlackhole(subnet, ip)).toHaveLength(1);
      expect(await ensureBlackhole(subnet, ip)).toEqual([]);
      await batch(say(['link add br0 type bridge', 'link set br0 up', 'address add 10.5.8.1/24 dev br0']));
      expect(await host.print('ip', 'route', 'get', say('10.5.8.7'))).toContain('dev br0');
      await ip.run('link', 'del', 'br0');
      await expect(host.print('ip', 'route', 'get', say('10.5.8.7'))).rejects.toThrow();
      expect(await removeBlackhole(subnet, ip)).toHaveLength(1);
      expect(await removeBlackhole(subnet, ip)).toEqual([]);
    });

    it('replaces the one that flannel made, which would shadow the bridge', async () => {
      await batch(say(['route add blackhole 10.5.8.0/24', 'route add blackhole 10.5.9.0/24']));
      expect(await ensureBlackhole(subnet, ip)).toHaveLength(2);
      const printed = (await host.print('ip', `-${family}`, 'route')).trim().split(/\s*\n/);
      expect(printed.map((line) => line.replace(/ dev lo| pref medium| metric 1024|/g, ''))).toEqual(
        say(['blackhole 10.5.8.0/24 metric 4294967295', 'blackhole 10.5.9.0/24']),
      );
    });
  });
});

describe('the underlay', () => {
  it('is found on a real host', async () => {
    await batch([
      'link add eth0 type veth peer name far0',
      'link add eth1 mtu 1400 type veth peer name far1',
      ...['eth0', 'far0', 'eth1', 'far1'].map((name) => `link set ${name} up`),
      'address add 192.0.2.10/24 dev eth0',
      'address add 198.51.100.10/24 dev eth1',
      'address add 198.51.100.11/24 dev eth1 valid_lft 1000 preferred_lft 0',
      'route add default via 192.0.2.1 metric 100',
      'route add default via 198.51.100.1 metric 50',
    ]);
    const nothing = { interfaces: [], patterns: [], canReach: '', publicIp: '', publicIpv6: '' };
    expect((await findUnderlay(nothing, ip)).underlay).toMatchObject({ name: 'eth1', mtu: 1400 });
    expect((await findUnderlay({ ...nothing, canReach: '192.0.2.77' }, ip)).underlay.name).toBe('eth0');
    expect((await findUnderlay({ ...nothing, interfaces: ['198.51.100.11'] }, ip)).reason).toContain('198.51.100.11');
    await batch(['route del default via 192.0.2.1', 'route del default via 198.51.100.1']);
    await expect(findUnderlay(nothing, ip)).rejects.toThrow('there is no default route');
    await expect(findUnderlay({ ...nothing, canReach: '203.0.113.1' }, ip)).rejects.toThrow('Network is unreachable');
  });
});
