import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { choosePeers } from '../../src/backend/choose-peers.js';
import { checkBackendConfig } from '../../src/backend/select.js';
import { readAnnouncement } from '../../src/backend/vxlan/announcement.js';
import { formatAnyPrefix, parseAnyPrefix } from '../../src/base/address.js';
import { parseIpv4, parsePrefix } from '../../src/base/ipv4.js';
import { parseIpv6Prefix } from '../../src/base/ipv6.js';
import { VALUE_LIMITS } from '../../src/base/json.js';
import { printable } from '../../src/base/printable.js';
import { renderLeases } from '../../src/cli/commands/leases.js';
import { decodeLeaseValue, encodeLeaseValue, formatSubnetKey, parseSubnetKey } from '../../src/subnet/keys.js';
import { halvesOf } from '../../src/subnet/lease.js';
import { checkNetworkConfig, parseNetworkConfig } from '../../src/subnet/network-config/config.js';
import { checkNetwork, effectiveConfig, leaseRows } from '../../src/subnet/network-config/network.js';
import { interpret } from '../../src/subnet/registry.js';
import { ManagerHarness, type Running } from '../support/manager-harness.js';
import { MemoryRegistry } from '../support/memory-registry.js';
import { fuzz, near, oddJson, oddObject, oddText, taken } from './support.js';

const keys = near('10.5.34.0-24', '10.5.34.0-24&fd00:5:0:22::-64', '0.0.0.0-0&fd00::-64', '10.5.0.0-30');
const announcement = oddObject({ VNI: '1', VtepMAC: '"02:00:00:00:00:50"' });
const lease = {
  PublicIP: '"192.0.2.7"',
  PublicIPv6: 'null',
  BackendType: '"vxlan"',
  BackendData: '{"VNI":1}',
  BackendV6Data: 'null',
};
const values = fc.oneof(
  { weight: 5, arbitrary: oddObject(lease) },
  {
    weight: 3,
    arbitrary: announcement.map((data) => `{"PublicIP":"192.0.2.7","BackendType":"vxlan","BackendData":${data}}`),
  },
  { weight: 2, arbitrary: near(`{"PublicIP":"192.0.2.1","PublicIPv6":null}`) },
  { weight: 1, arbitrary: oddJson },
);
const networks = fc.oneof(
  oddObject({
    ...{ Network: '"10.5.0.0/16"', SubnetLen: '24', SubnetMin: '"10.5.1.0"', SubnetMax: '"10.5.250.0"' },
    ...{ EnableIPv4: 'true', EnableIPv6: 'true', EnableNFTables: 'false', Backend: '{"Type":"udp","Port":8285}' },
    ...{
      IPv6Network: '"fd00:5::/56"',
      IPv6SubnetLen: '64',
      IPv6SubnetMin: '"fd00:5:0:1::"',
      IPv6SubnetMax: '"fd00:5:0:9::"',
    },
  }),
  oddObject({
    Type: '"vxlan"',
    VNI: '1',
    Port: '0',
    MTU: '1500',
    GBP: 'true',
    Learning: 'false',
    DirectRouting: 'true',
  }).map((backend) => `{"Network":"10.5.0.0/16","Backend":${backend}}`),
  near('{"Network":"10.5.0.0/16","SubnetLen":28,"Backend":{"Type":"host-gw"}}'),
);

describe('a fuzz of the registry', () => {
  fuzz('one key and value is a lease, nothing, or malformed', fc.tuple(keys, values), 3000, ([key, value]) => {
    const meaning = interpret(key, value);
    if (meaning.kind === 'malformed') {
      expect(meaning.entry.error.message.length).toBeLessThan(2000);
      return;
    }
    const { subnet, subnetV6, attributes } = meaning;
    const halves = halvesOf(meaning);
    expect(halves.length).toBeGreaterThan(0);
    for (const half of halves) expect(parseAnyPrefix(formatAnyPrefix(half))).toEqual(half);
    expect(parseSubnetKey(formatSubnetKey(meaning))).toEqual({ subnet, subnetV6 });
    expect(encodeLeaseValue(decodeLeaseValue(key, encodeLeaseValue(attributes)))).toBe(encodeLeaseValue(attributes));
    readAnnouncement(attributes.backendData, 1);
    const own = { subnet: parsePrefix('10.5.1.0/24'), subnetV6: parseIpv6Prefix('fd00:5:0:1::/64') };
    const underlay = [{ address: parseIpv4('192.0.2.1') as number, length: 24 }];
    const config = parseNetworkConfig('{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/56"}');
    const rules = {
      config,
      own,
      publicIp: 0xc0000201,
      publicIpv6: 1n << 125n,
      underlay,
      backendType: 'vxlan',
    };
    for (const { subnet, subnetV6, attributes } of choosePeers([{ ...meaning, expiresAt: null }], rules).peers) {
      expect(subnet !== null || subnetV6 !== null).toBe(true);
      expect(attributes.publicIp !== 0 || attributes.publicIpv6 !== null).toBe(true);
    }
  });

  fuzz('a network configuration is taken whole or refused by a rule', networks, 3000, (json) => {
    const checked = taken(() => checkNetworkConfig(json));
    if (checked === null) return;
    const { config } = checked;
    expect(config.ipv4?.subnetMin).toBeLessThanOrEqual(config.ipv4?.subnetMax as number);
    taken(() => checkBackendConfig(config));
    // What is shown of it means the same again.
    const shownAs = JSON.stringify(effectiveConfig(config));
    if (shownAs.length > VALUE_LIMITS.length) return;
    expect(JSON.stringify(effectiveConfig(parseNetworkConfig(shownAs)))).toBe(shownAs);
    checkNetwork(json, null);
  });
});

describe('a fuzz of a whole registry', () => {
  let harness: ManagerHarness;
  let running: Running;

  beforeEach(async () => {
    harness = new ManagerHarness();
    running = await harness.running();
  });
  afterEach(() => harness.close());

  const goodKey = formatSubnetKey({ subnet: parsePrefix('10.5.77.0/24'), subnetV6: null });
  const change = fc.record({
    key: keys,
    value: fc.option(values, { freq: 5 }),
    config: fc.option(networks, { freq: 5 }),
  });

  fuzz(
    'whatever stands beside them, good peers are known',
    fc.array(change, { maxLength: 10 }),
    40,
    async (changes) => {
      for (const { key, value, config } of changes) {
        if (key === '10.5.1.0-24' || key === goodKey) continue; // our own, and the good one's: others tell of those
        if (value === null) harness.store.delete(key);
        else harness.store.put(key, value, null);
        if (config !== null) harness.store.setConfig(config);
      }
      harness.putPeer('10.5.77.0/24', '192.0.2.77', null);
      await harness.clock.advance(100);
      expect(running.peers.get('10.5.77.0/24')).toBe('192.0.2.77');
      expect(running.lost).toEqual([]);
      expect(running.manager.status().phase).toBe('following');
      const { rows, malformed } = await leaseRows(new MemoryRegistry(harness.store), 0);
      const text = renderLeases(rows, malformed);
      for (const line of text.split('\n')) expect(printable(line)).toBe(line);
    },
  );

  it('the fuzz above reaches what it is for', () => {
    const kinds = new Map<string, number>();
    for (const [key, value] of fc.sample(fc.tuple(keys, values), { numRuns: 500, seed: 1 })) {
      const kind = interpret(key, value)?.kind ?? 'nothing';
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    }
    expect(kinds.get('lease')).toBeGreaterThan(20);
    expect(kinds.get('malformed')).toBeGreaterThan(20);
    expect(
      fc.sample(networks, { numRuns: 500, seed: 1 }).filter((json) => taken(() => checkNetworkConfig(json))),
    ).not.toHaveLength(0);
    expect(fc.sample(oddText, 10)).toHaveLength(10);
  });
});
