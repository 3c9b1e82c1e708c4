import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseIpv6 } from '../../../src/base/ipv6.js';
import { encodeLeaseValue, formatSubnetKey } from '../../../src/subnet/keys.js';
import type { LeaseAttributes, Subnets } from '../../../src/subnet/lease.js';
import { settle } from '../../support/fake-clock.js';
import { HOUR, ManagerHarness, SELF } from '../../support/manager-harness.js';
import { host, subnets } from '../../support/registry-suite.js';

const IPV6 = '"EnableIPv6":true,"IPv6Network":"fd00:5::/56"';
const DUAL = `{"Network":"10.5.0.0/16",${IPV6}}`;
const SIX = `{"EnableIPv4":false,${IPV6}}`;

const dual = (v4: string, v6: string | null): LeaseAttributes => ({
  ...host(v4),
  publicIpv6: v6 === null ? null : parseIpv6(v6),
});
const SELF_BOTH = dual(SELF, '2001:db8::1');
const SELF_SIX = dual('0.0.0.0', '2001:db8::1');

let harness: ManagerHarness;

beforeEach(() => {
  harness = new ManagerHarness();
});

afterEach(() => harness.close());

const put = (halves: Subnets, attributes: LeaseAttributes, ttl: number | null = 86_400) =>
  harness.store.put(formatSubnetKey(halves), encodeLeaseValue(attributes), ttl);
const keys = () => [...harness.store.entries.keys()].sort();
const run = (config: string, attributes: LeaseAttributes, previous?: Subnets) => {
  harness.store.setConfig(config);
  return harness.running({ host: attributes, ...(previous && { previous }) }, attributes);
};

describe('a subnet', () => {
  it.each([
    ['both families', DUAL, SELF_BOTH, '10.5.1.0-24&fd00:5:0:1::-64'],
    ['both, on a host without IPv6', DUAL, host(SELF), '10.5.1.0-24&fd00:5:0:1::-64'],
    ['IPv6', SIX, SELF_SIX, 'fd00:5:0:1::-64'],
    ['IPv6, on a host that has IPv4 too', SIX, SELF_BOTH, 'fd00:5:0:1::-64'],
    ['IPv4, on a host that has IPv6 too', '{"Network":"10.5.0.0/16"}', SELF_BOTH, '10.5.1.0-24'],
  ])('has the halves of a network of %s', async (_, config, attributes, key) => {
    const { lease } = await run(config, attributes);
    expect(keys()).toEqual([key]);
    expect(formatSubnetKey(lease)).toBe(key);
    expect(harness.store.entries.get(key)?.expiresAt).toBe(harness.clock.now() + 24 * HOUR);
  });

  it('is chosen half by half: what is taken of one family says nothing of the other', async () => {
    put(subnets('10.5.1.0/24', 'fd00:5:0:2::/64'), dual('192.0.2.2', null));
    put(subnets('10.5.2.0/24'), host('192.0.2.3')); // a flanneld of IPv4
    put(subnets(null, 'fd00:5:0:1::/64'), dual('0.0.0.0', '2001:db8::4'));
    await run(DUAL, SELF_BOTH);
    expect(keys()).toContain('10.5.3.0-24&fd00:5:0:3::-64');
  });

  it('is the previous one, as far as nobody has it by now', async () => {
    put(subnets('10.5.7.0/24'), host('192.0.2.2'));
    await run(DUAL, SELF_BOTH, subnets('10.5.7.0/24', 'fd00:5:0:77::/64'));
    expect(keys()).toEqual(['10.5.1.0-24&fd00:5:0:77::-64', '10.5.7.0-24']);
  });

  it('keeps its IPv4 half when the network gains IPv6, and the old key goes', async () => {
    put(subnets('10.5.66.0/24'), host(SELF));
    await run(DUAL, SELF_BOTH);
    expect(keys()).toEqual(['10.5.66.0-24&fd00:5:0:1::-64']);
  });

  it('keeps its IPv6 half when the network loses IPv4', async () => {
    put(subnets('10.5.66.0/24', 'fd00:5:0:66::/64'), SELF_BOTH);
    await run(SIX, SELF_BOTH);
    expect(keys()).toEqual(['fd00:5:0:66::-64']);
  });

  it('is used again by its owner, who is told by his IPv6 address where he has no other', async () => {
    put(subnets(null, 'fd00:5:0:9::/64'), SELF_SIX);
    put(subnets(null, 'fd00:5:0:8::/64'), dual('0.0.0.0', '2001:db8::2'));
    const { lease } = await run(SIX, SELF_SIX);
    expect(formatSubnetKey(lease)).toBe('fd00:5:0:9::-64');
  });

  it('that is reserved stays a reservation, with both halves', async () => {
    put(subnets('10.5.50.0/24', 'fd00:5:0:50::/64'), host(SELF), null);
    const { lease } = await run(DUAL, SELF_BOTH);
    expect(lease).toMatchObject({ attributes: SELF_BOTH, expiresAt: null });
    expect(keys()).toEqual(['10.5.50.0-24&fd00:5:0:50::-64']);
  });

  it('in part reserved takes what is reserved', async () => {
    put(subnets('10.5.50.0/24'), host(SELF), null);
    await run(DUAL, SELF_BOTH);
    expect(keys()).toEqual(['10.5.50.0-24', '10.5.50.0-24&fd00:5:0:1::-64']);
  });
});

describe('the own lease', () => {
  it.each([
    ['gains an IPv6 address', host(SELF), SELF_BOTH],
    ['loses it', SELF_BOTH, host(SELF)],
    ['gets another one', SELF_BOTH, dual(SELF, '2001:db8::99')],
    ['loses its IPv4 address', SELF_BOTH, SELF_SIX],
    ['gets another IPv4 address', SELF_BOTH, dual('192.0.2.99', '2001:db8::1')],
  ])('is written again, in one write of the same key, when the host %s', async (_, before, after) => {
    const running = await run(DUAL, before);
    const { store } = harness;
    const [key] = keys();
    const { revision } = store;
    running.manager.announce(after);
    await settle();
    expect(running.events.at(-1)).toBe('announced');
    expect(store.entries.get(key as string)?.value).toBe(encodeLeaseValue(after));
    expect(store.revision).toBe(revision + 1);
    expect(running.lost).toEqual([]);
  });

  it('is lost to a host that holds one of its halves after it was gone', async () => {
    const running = await run(DUAL, SELF_BOTH);
    put(subnets(null, 'fd00:5:0:1::/64'), dual('0.0.0.0', '2001:db8::2'));
    harness.store.delete('10.5.1.0-24&fd00:5:0:1::-64');
    await settle();
    expect(running.lost.map(({ reason }) => reason)).toEqual([expect.stringContaining('fd00:5:0:1::/64')]);
  });
});

it('peers of every kind stand side by side, and what is wrong with one disturbs no other', async () => {
  put(subnets('10.5.2.0/24'), host('192.0.2.2'));
  put(subnets('10.5.3.0/24', 'fd00:5:0:3::/64'), dual('192.0.2.3', '2001:db8::3'));
  put(subnets(null, 'fd00:5:0:4::/64'), dual('0.0.0.0', '2001:db8::4'));
  harness.store.put('10.5.5.0-24&fd00:5:0:5::1-64', encodeLeaseValue(host('192.0.2.5')));
  harness.store.put('10.5.6.0-24&fd00:5:0:6::-64', '{"PublicIP":"192.0.2.6","PublicIPv6":"no"}');
  const { manager } = await run(DUAL, SELF_BOTH);
  expect(manager.peers.leases.map(formatSubnetKey).sort()).toEqual([
    '10.5.2.0-24',
    '10.5.3.0-24&fd00:5:0:3::-64',
    'fd00:5:0:4::-64',
  ]);
  expect(manager.status().malformed).toHaveLength(2);
});
