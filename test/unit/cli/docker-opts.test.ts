import { describe, expect, it } from 'vitest';
import { parseEnvFile } from '../../../src/base/env-file.js';
import { dockerOptions } from '../../../src/cli/docker-opts.js';

const subnetFile = Object.fromEntries(
  parseEnvFile(`FLANNEL_NETWORK=10.5.0.0/16
FLANNEL_SUBNET=10.5.72.1/24
FLANNEL_MTU=1472
FLANNEL_IPMASQ=true
`),
);
const standard = { individual: false, combined: false, combinedKey: 'DOCKER_OPTS', masquerade: true };

// The expected texts are what mk-docker-opts.sh wrote for the same input, blanks included.
describe("Docker's options", () => {
  it('are written one by one and combined when nothing is chosen', () => {
    expect(dockerOptions(subnetFile, {}, standard)).toBe(`\
DOCKER_OPT_BIP="--bip=10.5.72.1/24"
DOCKER_OPT_IPMASQ="--ip-masq=false"
DOCKER_OPT_MTU="--mtu=1472"
DOCKER_OPTS=" --bip=10.5.72.1/24 --ip-masq=false --mtu=1472"
`);
  });

  it('have the IPv6 subnet as a network of the bridge', () => {
    const both = { ...subnetFile, FLANNEL_IPV6_NETWORK: 'fd00:5::/56', FLANNEL_IPV6_SUBNET: 'fd00:5:0:7::1/64' };
    expect(dockerOptions(both, {}, { ...standard, combined: true })).toBe(
      'DOCKER_OPTS=" --bip=10.5.72.1/24 --fixed-cidr-v6=fd00:5:0:7::/64 --ip-masq=false --ipv6 --mtu=1472"\n',
    );
    expect(() => dockerOptions({ FLANNEL_IPV6_SUBNET: '10.5.7.1/24' }, {}, standard)).toThrow(/must be an IPv6 prefix/);
  });

  it('are written one by one with -i', () => {
    expect(dockerOptions(subnetFile, {}, { ...standard, individual: true })).toBe(`\
DOCKER_OPT_BIP="--bip=10.5.72.1/24"
DOCKER_OPT_IPMASQ="--ip-masq=false"
DOCKER_OPT_MTU="--mtu=1472"
`);
  });

  it('are combined with -c, under the name that -k gives', () => {
    expect(dockerOptions(subnetFile, {}, { ...standard, combined: true, combinedKey: 'OPTIONS' })).toBe(
      'OPTIONS=" --bip=10.5.72.1/24 --ip-masq=false --mtu=1472"\n',
    );
  });

  it('have Docker masquerade where the overlay does not', () => {
    expect(dockerOptions({ ...subnetFile, FLANNEL_IPMASQ: 'false' }, {}, standard)).toBe(`\
DOCKER_OPT_BIP="--bip=10.5.72.1/24"
DOCKER_OPT_IPMASQ="--ip-masq=true"
DOCKER_OPT_MTU="--mtu=1472"
DOCKER_OPTS=" --bip=10.5.72.1/24 --ip-masq=true --mtu=1472"
`);
  });

  it('leave masquerading alone with -m, and where nobody says anything of it', () => {
    const combined = { ...standard, combined: true };
    const text = 'DOCKER_OPTS=" --bip=10.5.72.1/24 --mtu=1472"\n';
    for (const said of ['true', 'false', 'maybe']) {
      const file = { ...subnetFile, FLANNEL_IPMASQ: said };
      expect(dockerOptions(file, {}, { ...combined, masquerade: false })).toBe(text);
    }
    expect(dockerOptions({ ...subnetFile, FLANNEL_IPMASQ: '' }, {}, combined)).toBe(text);
  });

  it('are none where masquerading is neither true nor false', () => {
    expect(() => dockerOptions({ FLANNEL_IPMASQ: 'yes' }, {}, standard)).toThrow(
      'FLANNEL_IPMASQ=yes: the value must be true or false',
    );
  });

  it('have white space folded, but not in what was there before', () => {
    const environment = { DOCKER_OPT_A: '  --a \t --b ', DOCKER_OPTS: '--c  --d' };
    expect(dockerOptions({}, environment, { ...standard, combined: true })).toBe('DOCKER_OPTS="--c  --d  --a --b"\n');
  });

  it('keep what the environment brings along', () => {
    const environment = { DOCKER_OPTS: '--debug', DOCKER_OPT_A: '--a=1', FLANNEL_MTU: '9000', OTHER: 'x' };
    expect(dockerOptions(subnetFile, environment, standard)).toBe(`\
DOCKER_OPT_A="--a=1"
DOCKER_OPT_BIP="--bip=10.5.72.1/24"
DOCKER_OPT_IPMASQ="--ip-masq=false"
DOCKER_OPT_MTU="--mtu=1472"
DOCKER_OPTS="--debug  --a=1 --bip=10.5.72.1/24 --ip-masq=false --mtu=1472"
`);
  });

  it('are none without a subnet', () => {
    expect(dockerOptions({}, {}, standard)).toBe('DOCKER_OPTS=""\n');
  });
});
