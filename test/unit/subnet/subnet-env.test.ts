import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatPrefix } from '../../../src/base/ipv4.js';
import { formatIpv6Prefix, type Ipv6Prefix, parseIpv6Prefix } from '../../../src/base/ipv6.js';
import { formatSubnetEnv, parseSubnetEnv, readSubnetEnv, writeSubnetEnv } from '../../../src/subnet/subnet-env.js';
import { subnet } from '../../support/registry-suite.js';

const env = {
  ipv4: { network: subnet('100.96.0.0/16'), subnet: subnet('100.96.42.0/24') },
  ipv6: null,
  keptV6: null,
  mtu: 1472,
  ipMasq: true,
};
const nothing = { subnet: null, network: null, subnetV6: null, networkV6: null };
const BYTES = 'FLANNEL_NETWORK=100.96.0.0/16\nFLANNEL_SUBNET=100.96.42.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tweed-env-'));
});

afterEach(() => rm(directory, { recursive: true }));

it('has flannel’s exact bytes', () => {
  expect(formatSubnetEnv(env)).toBe(BYTES);
  expect(formatSubnetEnv({ ...env, ipMasq: false })).toContain('FLANNEL_IPMASQ=false\n');
});

const six = {
  network: parseIpv6Prefix('2001:cafe:42::/56') as Ipv6Prefix,
  subnet: parseIpv6Prefix('2001:cafe:42:7::/64') as Ipv6Prefix,
};

it.each([
  [
    'both families',
    { ...env, ipv6: six },
    BYTES.replace(
      'FLANNEL_MTU',
      'FLANNEL_IPV6_NETWORK=2001:cafe:42::/56\nFLANNEL_IPV6_SUBNET=2001:cafe:42:7::1/64\nFLANNEL_MTU',
    ),
  ],
  [
    'IPv6',
    { ...env, ipv4: null, ipv6: six },
    'FLANNEL_IPV6_NETWORK=2001:cafe:42::/56\nFLANNEL_IPV6_SUBNET=2001:cafe:42:7::1/64\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n',
  ],
])('has flannel’s lines of %s in their order, and they are read back', (_, content, bytes) => {
  expect(formatSubnetEnv(content)).toBe(bytes);
  expect(parseSubnetEnv(bytes)).toEqual({
    subnet: content.ipv4?.subnet ?? null,
    network: content.ipv4?.network ?? null,
    subnetV6: content.ipv6?.subnet ?? null,
    networkV6: content.ipv6?.network ?? null,
    warnings: [],
  });
});

it('keeps for the next start what containers are not to know, where nobody else reads it', () => {
  const text = formatSubnetEnv({ ...env, keptV6: six });
  expect(text).toBe(`${BYTES}TWEED_KEPT_NETWORK=2001:cafe:42::/56\nTWEED_KEPT_SUBNET=2001:cafe:42:7::1/64\n`);
  const { ipv4 } = env;
  const { subnet: subnetV6, network: networkV6 } = six;
  expect(parseSubnetEnv(text)).toEqual({ ...ipv4, subnetV6, networkV6, warnings: [] });
  const told = `${text}FLANNEL_IPV6_SUBNET=2001:cafe:42:8::1/64\n`;
  expect(formatIpv6Prefix(parseSubnetEnv(told).subnetV6 as Ipv6Prefix)).toBe('2001:cafe:42:8::/64');
});

it('tells of an IPv6 value that is none', () => {
  const { subnetV6, warnings } = parseSubnetEnv(
    'FLANNEL_IPV6_SUBNET=10.5.0.1/24\nFLANNEL_IPV6_NETWORK=fd00::/48,fd01::/48\n',
  );
  expect(subnetV6).toBeNull();
  expect(warnings).toEqual([expect.stringContaining('is no IPv6 prefix'), expect.stringContaining('lists 2 values')]);
});

describe('writing', () => {
  it('makes the directories and a file for everybody to read, whatever the umask, and leaves nothing else', async () => {
    const path = join(directory, 'run', 'flannel', 'subnet.env');
    const before = process.umask(0o077);
    try {
      await writeSubnetEnv(path, env);
    } finally {
      process.umask(before);
    }
    expect(await readFile(path, 'utf8')).toBe(BYTES);
    expect((await stat(path)).mode & 0o777).toBe(0o644);
    expect(await readdir(join(directory, 'run', 'flannel'))).toEqual(['subnet.env']);
  });

  it('replaces an older file', async () => {
    const path = join(directory, 'subnet.env');
    await writeFile(path, 'old');
    await chmod(path, 0o600);
    await writeSubnetEnv(path, env);
    expect(await readFile(path, 'utf8')).toBe(BYTES);
    expect((await stat(path)).mode & 0o777).toBe(0o644);
  });

  it('says what failed and what to do', async () => {
    await writeFile(join(directory, 'file'), '');
    const path = join(directory, 'file', 'subnet.env');
    await expect(writeSubnetEnv(path, env)).rejects.toThrow(/cannot write .*make its directory writable/);
  });
});

describe('reading back', () => {
  it('gives the subnet without host bits', async () => {
    const path = join(directory, 'subnet.env');
    await writeSubnetEnv(path, env);
    const previous = await readSubnetEnv(path);
    expect(previous.subnet && formatPrefix(previous.subnet)).toBe('100.96.42.0/24');
    expect(previous.network && formatPrefix(previous.network)).toBe('100.96.0.0/16');
    expect(previous.warnings).toEqual([]);
  });

  it('finds nothing in a missing file, without a warning', async () => {
    expect(await readSubnetEnv(join(directory, 'none'))).toEqual({ ...nothing, warnings: [] });
  });

  it('warns about a file that cannot be read', async () => {
    expect((await readSubnetEnv(directory)).warnings).toHaveLength(1);
  });

  it.each([
    ['export and double quotes', 'export FLANNEL_SUBNET="10.5.72.1/24"\n'],
    ['single quotes', "FLANNEL_SUBNET='10.5.72.1/24'"],
    ['spaces, comments and CRLF', '# made by hand\r\n\r\n  FLANNEL_SUBNET = 10.5.72.1/24  # ours\r\n'],
    ['the later of two', 'FLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_SUBNET=10.5.72.1/24\n'],
  ])('copes with %s', (_, text) => {
    const { subnet: found, warnings } = parseSubnetEnv(text);
    expect(found && formatPrefix(found)).toBe('10.5.72.0/24');
    expect(warnings).toEqual([]);
  });

  it.each([
    ['FLANNEL_SUBNET=10.5.72.1/24,10.5.73.1/24', /lists 2 values/],
    ['FLANNEL_NETWORK=10.5.0.0/16,10.6.0.0/16', /FLANNEL_NETWORK lists 2/],
    ['FLANNEL_SUBNET=10.5.72.1', /no IPv4 prefix/],
    ['FLANNEL_SUBNET=fd00::1/64', /no IPv4 prefix/],
  ])('warns about %s and goes on without it', (text, warning) => {
    const previous = parseSubnetEnv(text);
    expect(previous).toMatchObject({ subnet: null, network: null });
    expect(previous.warnings).toEqual([expect.stringMatching(warning)]);
  });

  it('finds nothing in garbage', () => {
    expect(parseSubnetEnv('\0\u0001=\n===\nFLANNEL_SUBNET\n')).toEqual({ ...nothing, warnings: [] });
  });
});
