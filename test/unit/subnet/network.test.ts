import { expect, it } from 'vitest';
import { ConfigChangedError, ConfigError } from '../../../src/subnet/errors.js';
import { encodeLeaseValue } from '../../../src/subnet/keys.js';
import { parseNetworkConfig } from '../../../src/subnet/network-config/config.js';
import {
  checkNetwork,
  describeChange,
  effectiveConfig,
  leaseRows,
  setNetwork,
  subnetCount,
} from '../../../src/subnet/network-config/network.js';
import { FakeClock } from '../../support/fake-clock.js';
import { MemoryRegistry, MemoryStore } from '../../support/memory-registry.js';
import { host } from '../../support/registry-suite.js';

function cluster() {
  const clock = new FakeClock();
  const store = new MemoryStore(clock);
  return { clock, store, registry: new MemoryRegistry(store) };
}

it('counts the subnets of a range', () => {
  expect(subnetCount(parseNetworkConfig('{"Network":"10.5.0.0/16"}'))).toBe(255);
  expect(subnetCount(parseNetworkConfig('{"Network":"10.0.0.0/8"}'))).toBe(65_535);
  expect(subnetCount(parseNetworkConfig('{"Network":"10.5.0.0/28"}'))).toBe(3);
});

it('shows the effective config under flannel’s names, and reads it again', () => {
  const config = parseNetworkConfig(
    '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/56","Backend":{"Type":"udp","Port":9000}}',
  );
  const shown = effectiveConfig(config);
  expect(shown).toMatchObject({ SubnetMin: '10.5.1.0', IPv6SubnetLen: 64, Backend: { Type: 'udp', port: 9000 } });
  expect(parseNetworkConfig(JSON.stringify(shown))).toEqual(config);
});

it('warns about leases that a new config would not fit', async () => {
  const { store, registry } = cluster();
  for (let i = 1; i <= 5; i++) store.put(`10.5.${i}.0-24`, encodeLeaseValue(host(`192.0.2.${i}`)), 60);
  const snapshot = await registry.list();
  expect(checkNetwork('{"Network":"10.5.0.0/16"}', snapshot).warnings).toEqual([]);
  expect(checkNetwork('{"Network":"10.6.0.0/28"}', snapshot).warnings).toEqual([
    expect.stringMatching(/do not fit.*10\.5\.1\.0\/24, 10\.5\.2\.0\/24, 10\.5\.3\.0\/24 and 2 more/),
    expect.stringMatching(/5 leases exist, but there is room for 3/),
  ]);
  expect(() => checkNetwork('{}', snapshot)).toThrow(ConfigError);
});

it('stores a good config only, and only over the one that was read', async () => {
  const { registry } = cluster();
  const { version } = await registry.getConfig();
  await expect(setNetwork(registry, '{"Network":"x"}', null)).rejects.toThrow(ConfigError);
  expect((await registry.getConfig()).json).toBeNull();
  await setNetwork(registry, '{"Network":"10.5.0.0/16"}', version);
  await expect(setNetwork(registry, '{"Network":"10.6.0.0/16"}', version)).rejects.toThrow(ConfigChangedError);
  expect((await registry.getConfig()).json).toBe('{"Network":"10.5.0.0/16"}');
});

it('lists the leases by address, with time left and what is odd about them', async () => {
  const { clock, store, registry } = cluster();
  store.setConfig('{"Network":"10.5.0.0/16"}');
  store.put('10.5.200.0-24', encodeLeaseValue({ ...host('192.0.2.1'), backendType: 'vxlan' }), 90);
  store.put('10.5.3.0-24', encodeLeaseValue(host('192.0.2.2')));
  store.put('10.5.0.0-20', encodeLeaseValue(host('192.0.2.1')), 60);
  store.put('10.5.7.1-24', '{}');
  await clock.advance(30_000);
  const { rows, malformed } = await leaseRows(registry, clock.now());
  expect(
    rows.map(({ subnet, publicIp, backend, reservation, secondsLeft, remarks }) => [
      subnet,
      publicIp,
      backend,
      reservation,
      secondsLeft,
      remarks,
    ]),
  ).toEqual([
    [
      '10.5.0.0/20',
      '192.0.2.1',
      'udp',
      false,
      30,
      ['does not fit the network config', 'overlaps 10.5.3.0-24', 'same host as 10.5.200.0-24'],
    ],
    ['10.5.3.0/24', '192.0.2.2', 'udp', true, null, ['overlaps 10.5.0.0-20']],
    ['10.5.200.0/24', '192.0.2.1', 'vxlan', false, 60, ['same host as 10.5.0.0-20']],
  ]);
  expect(malformed).toEqual([{ key: '10.5.7.1-24', problem: 'is not the first address of a /24' }]);
});

it('a change is refused that cuts live leases off, or changes the backend by saying nothing', async () => {
  const { store, registry } = cluster();
  const vxlan = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}';
  expect((await setNetwork(registry, vxlan, null)).before).toBeNull();
  await expect(setNetwork(registry, '{"Network":"10.5.0.0/16"}', null)).rejects.toThrow(
    /without a Backend it is udp, and vxlan is in use; add --force/,
  );
  expect((await registry.getConfig()).json).toBe(vxlan);
  const change = await setNetwork(registry, '{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}', null);
  expect(change.before).toBe(vxlan);
  expect(describeChange(change.before, change.config)).toEqual(['Backend: {"Type":"vxlan"} → {"Type":"udp"}']);
  expect(describeChange(vxlan, checkNetwork(vxlan, null).config)).toEqual([]);
  store.put('10.5.7.0-24', encodeLeaseValue(host('192.0.2.1')), 60);
  await expect(setNetwork(registry, '{"Network":"10.9.0.0/16","Backend":{"Type":"udp"}}', null)).rejects.toThrow(
    /1 live lease would not fit \(10\.5\.7\.0\/24\)/,
  );
  await setNetwork(registry, '{"Network":"10.9.0.0/16"}', null, true);
  expect((await registry.getConfig()).json).toBe('{"Network":"10.9.0.0/16"}');
});
