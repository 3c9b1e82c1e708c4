import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseMac } from '../../src/backend/vxlan/mac.js';
import { parseEnvFile } from '../../src/base/env-file.js';
import { silentLogger } from '../../src/base/log.js';
import { redactUrls } from '../../src/base/redact.js';
import { dockerOptions } from '../../src/cli/docker-opts.js';
import { parseLabState } from '../../src/lab/state.js';
import { PeerCache } from '../../src/subnet/leases/peer-cache.js';
import { parseSubnetEnv } from '../../src/subnet/subnet-env.js';
import { fuzz, near, oddObject, taken } from './support.js';

let directory: string;
beforeAll(async () => {
  directory = await fs.mkdtemp(path.join(os.tmpdir(), 'tweed-fuzz-'));
});
afterAll(() => fs.rm(directory, { recursive: true }));

const subnetEnv = near(
  'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n',
  'export A="b" # c\r\nFLANNEL_SUBNET=\'10.5.72.1/24\'\n',
  'FLANNEL_SUBNET=10.5.72.1/24,10.6.72.1/24\n__proto__=x\nconstructor=1\n',
);
const own = `{"key":"10.5.1.0-24","subnet":"10.5.1.0/24","value":"{\\"PublicIP\\":\\"192.0.2.1\\"}","reservation":false,"expiresAt":1}`;
const cache = fc.oneof(
  oddObject({ format: '1', savedAt: '1', config: '"{\\"Network\\":\\"10.5.0.0/16\\"}"', own, peers: `[${own}]` }),
  near(`{"format":1,"savedAt":1,"config":"{\\"Network\\":\\"10.5.0.0/16\\"}","own":${own},"peers":[${own},${own}]}`),
);

describe('a fuzz of files', () => {
  fuzz('subnet.env gives prefixes or warnings', subnetEnv, 3000, (text) => {
    const { subnet, network, warnings } = parseSubnetEnv(text);
    for (const prefix of [subnet, network]) if (prefix !== null) expect(prefix.length).toBeLessThanOrEqual(32);
    for (const warning of warnings) expect(warning.length).toBeLessThan(300);
    const choices = { individual: false, combined: false, combinedKey: 'DOCKER_OPTS', masquerade: true };
    taken(() => dockerOptions(Object.fromEntries(parseEnvFile(text)), {}, choices));
  });

  fuzz(
    'a file with a MAC address gives one or none',
    near('02:00:00:00:00:50\n', '02-00-00-00-00-50'),
    1000,
    (text) => {
      expect(parseMac(text.trim()) ?? '00:00:00:00:00:00').toMatch(/^([\da-f]{2}:){5}[\da-f]{2}$/);
    },
  );

  fuzz('the last known state is used whole, or not at all', cache, 500, async (text) => {
    const file = path.join(directory, 'cache.json');
    await fs.writeFile(file, text);
    const state = await new PeerCache(file, silentLogger()).load();
    if (state !== null) expect(state.config.ipv4?.subnetLength).toBeGreaterThan(0);
  });

  const lab = oddObject({ options: '{"hosts":2}', hosts: '[{"name":"host1"}]', publications: '[]', complete: 'true' });
  fuzz('what is kept of a lab is used or refused', lab, 1000, (text) => {
    const state = taken(() => parseLabState(text));
    if (state !== null) expect(Array.isArray(state.hosts) && Array.isArray(state.publications)).toBe(true);
  });

  // Found by trying long texts: both took time by the square of the length, tens of seconds here.
  it('long lines and words are read at once', () => {
    expect(parseEnvFile(`A=x${'\t'.repeat(1_000_000)}y`).get('A')).toHaveLength(1_000_002);
    expect(parseEnvFile(`A="${' "'.repeat(1_000_000)}`).get('A')).toHaveLength(2_000_001);
    for (const text of ['a'.repeat(1_000_000), 'a+'.repeat(500_000), 'a://'.repeat(250_000)]) {
      expect(redactUrls(text)).toBe(text);
    }
  });
});
