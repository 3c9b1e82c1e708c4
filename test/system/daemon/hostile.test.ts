import fs from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { JsonError, parseJson } from '../../../src/base/json.js';
import { eventually, networkConfig, type TestHost, TestNetwork } from './hosts.js';

/** Nested so many levels deep. */
const deep = (levels: number) => '['.repeat(levels) + ']'.repeat(levels);

describe('a registry that somebody else writes to', () => {
  let network: TestNetwork;
  let host: TestHost;

  beforeEach(async () => {
    network = await TestNetwork.create();
    [host] = network.hosts;
  });
  afterEach(() => network.remove());

  async function write(key: string, value: string): Promise<void> {
    const folder = path.join(network.endpoint.replace(/^.*file:\/\//, ''), key === 'config' ? '' : 'subnets');
    await fs.writeFile(path.join(folder, `.new-${key}`), value);
    await fs.rename(path.join(folder, `.new-${key}`), path.join(folder, key));
  }

  const lease = (address: string, more = '') => `{"PublicIP":"${address}","PublicIPv6":null${more}}`;

  it('costs the keys that cannot be read and nothing more, whatever stands in them', async () => {
    const daemon = host.start([network.endpoint]);
    await host.ready();
    const backendData = (levels: number) => lease('192.168.77.9', `,"BackendType":"udp","BackendData":${deep(levels)}`);
    const values = [
      `{"PublicIP":${deep(20_000)}}`,
      `{"PublicIPv6":${deep(20_000)}}`,
      `{"BackendType":${deep(20_000)}}`,
      backendData(8_000),
      `{"a":`.repeat(20_000),
      `{"PublicIP":"${'9'.repeat(1_000_000)}"}`,
      '{"PublicIP":1e999}',
      '\u0000\u001b[2J',
    ];
    for (const [at, value] of values.entries()) await write(`100.96.${200 + at}.0-24`, value);
    await write('100.96.203.0-24', backendData(8_000)); // the second time used to be compared with the first
    await write('100.96.203.0-24', backendData(7_999));
    await write('config', `{"Network":${deep(20_000)}}`);
    await write('100.96.100.0-24', lease('192.168.77.50'));
    const { backend, unforeseenErrors } = await host.ready(1);
    expect(backend?.peers.map(({ subnet }) => subnet)).toEqual(['100.96.100.0/24']);
    expect(unforeseenErrors).toBe(0);
    await daemon.says('changed to a wrong one');
    for (const at of values.keys()) await daemon.says(`100.96.${200 + at}.0-24`);

    await write('config', networkConfig);
    expect(await daemon.stop()).toBe(0);
    const again = host.start([network.endpoint]); // with all of it there from the beginning
    expect((await host.ready(1)).backend?.peers).toHaveLength(1);
    const leases = (await host.tweed('leases', `-${network.endpoint}`)).stdout;
    expect(leases).toContain('unreadable: 100.96.207.0-24');
    expect(leases).not.toContain('\u001b');
    expect(await again.stop()).toBe(0);
  });

  it('costs one peer where vxlan announces nonsense', async () => {
    await network.registry.setConfig('{"Network":"100.96.0.0/16","Backend":{"Type":"vxlan"}}', null);
    const daemon = host.start([network.endpoint]);
    await host.ready();
    const vxlan = (address: string, data: string) => lease(address, `,"BackendType":"vxlan","BackendData":${data}`);
    await write('100.96.200.0-24', vxlan('192.168.77.60', `{"VNI":1,"VtepMAC":${deep(6_000)}}`));
    await write('100.96.201.0-24', vxlan('192.168.77.61', `{"VNI":${deep(10)},"VtepMAC":"02:00:00:00:00:61"}`));
    await write('100.96.100.0-24', vxlan('192.168.77.50', '{"VNI":1,"VtepMAC":"02:00:00:00:00:50"}'));
    const status = await host.ready(1);
    expect(status.backend?.peers.map(({ subnet }) => subnet)).toEqual(['100.96.100.0/24']);
    await eventually(async () => expect((await host.status()).unforeseenErrors).toBe(0));
    expect(await daemon.stop()).toBe(0);
  });

  it('is not even waited for where a directory cannot be made: one clear line', async () => {
    const daemon = host.start([network.endpoint, '-run-dir=/proc/x/y', '-subnet-file=/proc/x/y/subnet.env']);
    await daemon.says('writing /proc/x/y/subnet.env: cannot write');
    await daemon.says('no status socket at /proc/x/y/tweed.sock');
    expect(await daemon.stop()).toBe(0);
  });

  it('this test writes what the parser is to refuse', () => {
    expect(() => parseJson(`{"PublicIP":${deep(20_000)}}`)).toThrow(JsonError);
  });
});
