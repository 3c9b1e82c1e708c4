import { describe, expect, it } from 'vitest';
import { type Prefix, parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import { coverageWarnings } from '../../../src/daemon/coverage.js';

const underlay = {
  name: 'eth0',
  index: 2,
  address: parseIpv4('10.43.1.1') as number,
  prefixLength: 24,
  ipv6: null,
  mtu: 1500,
};
const warnings = (network: string, ...endpoints: string[]) =>
  coverageWarnings(parsePrefix(network) as Prefix, underlay, endpoints);

describe('an overlay that covers the hosts’ own network', () => {
  it('is told of, and what goes with it', () => {
    expect(warnings('10.0.0.0/8', 'http://10.43.2.1:2379', 'https://10.43.1.7', 'http://192.0.2.1:2379')).toEqual([
      expect.stringMatching(
        /^the overlay’s network 10\.0\.0\.0\/8 covers 10\.43\.1\.1 of eth0: .*restart every daemon$/,
      ),
      expect.stringContaining('covers the way to the registry at http://10.43.2.1:2379, which is out of reach'),
    ]);
  });

  it.each([
    ['elsewhere', '100.96.0.0/16', 'http://10.43.2.1:2379'],
    ['with the registry on the link', '10.43.1.128/25', 'http://10.43.1.200:2379'],
    ['with a name for the registry', '10.44.0.0/16', 'http://etcd.example:2379'],
    ['with a registry in a directory', '10.44.0.0/16', 'file:///10.44.1.1'],
  ])('is not one %s', (_, network, endpoint) => expect(warnings(network, endpoint)).toEqual([]));
});
