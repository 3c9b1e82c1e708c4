import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { EtcdConnection } from '../../../src/subnet/etcd/etcd-connection.js';
import { EtcdRegistry } from '../../../src/subnet/etcd/etcd-registry.js';
import { host, subnets } from '../../support/registry-suite.js';
import { type EtcdServer, makeEtcd, whyNoEtcd } from '../support/etcd.js';

const reason = whyNoEtcd();
const MEGABYTE = 1 << 20;

describe.skipIf(reason !== '')(`what somebody else keeps in etcd ${reason}`, () => {
  let server: EtcdServer;

  beforeAll(async () => {
    server = await makeEtcd();
  });

  afterAll(() => server.destroy());

  async function put(key: string, value: string): Promise<void> {
    const connection = new EtcdConnection({ endpoints: [server.endpoint] }, silentLogger());
    await connection.request(({ kv }) => kv.put({ key: Buffer.from(key), value: Buffer.from(value) }));
    connection.close();
  }

  it('does not keep a daemon from its list: seventy leases of a megabyte among good ones', async () => {
    const registry = new EtcdRegistry({ endpoints: [server.endpoint], prefix: '/large' }, silentLogger());
    await registry.create(subnets('10.5.1.0/24'), host('192.0.2.1'), 100);
    const large = JSON.stringify({ PublicIP: '192.0.2.9', PublicIPv6: null, BackendData: 'x'.repeat(MEGABYTE) });
    for (let count = 0; count < 70; count++) await put(`/large/subnets/10.5.${100 + count}.0-24`, large);
    await registry.create(subnets('10.5.250.0/24'), host('192.0.2.2'), 100);
    const { leases, malformed } = await registry.list();
    expect(leases.map(({ key }) => key)).toEqual(['10.5.1.0-24', '10.5.250.0-24']);
    expect(malformed).toHaveLength(70);
    expect(malformed[0]?.error.message).toMatch(/characters, 65536 are allowed; correct or delete this key$/);
    await registry.close();
  });

  it('is listed page by page, nothing missing and nothing twice', async () => {
    const registry = new EtcdRegistry({ endpoints: [server.endpoint], prefix: '/many' }, silentLogger());
    const connection = new EtcdConnection({ endpoints: [server.endpoint] }, silentLogger());
    const value = Buffer.from('{"PublicIP":"192.0.2.7","PublicIPv6":null}');
    const keys = Array.from({ length: 1201 }, (_, at) => `10.${at >> 8}.${at & 255}.0-24`);
    await connection.request(({ kv }) =>
      Promise.all(keys.map((key) => kv.put({ key: Buffer.from(`/many/subnets/${key}`), value }))),
    );
    connection.close();
    await put('/many/subnets0', 'behind the range');
    const { leases, malformed } = await registry.list();
    expect(leases.map(({ key }) => key).sort()).toEqual([...keys].sort());
    expect(malformed).toEqual([]);
    await registry.close();
  });

  it('may have names of a megabyte: they are short in every message, and go again when they are deleted', async () => {
    const registry = new EtcdRegistry({ endpoints: [server.endpoint], prefix: '/names' }, silentLogger());
    const names = ['x', 'y'].map((last) => `${'k'.repeat(MEGABYTE)}${last}`);
    for (const name of names) await put(`/names/subnets/${name}`, '{}');
    const { malformed } = await registry.list();
    expect(new Set(malformed.map(({ key }) => key)).size).toBe(2);
    for (const { key, error } of malformed) expect(key.length + error.message.length).toBeLessThan(500);
    await registry.close();
  });

  it('is found below a prefix without a slash at its front, where flanneld keeps it', async () => {
    await put('kube-centos/network/config', '{"Network":"10.7.0.0/16"}');
    const registry = new EtcdRegistry({ endpoints: [server.endpoint], prefix: 'kube-centos/network' }, silentLogger());
    expect((await registry.getConfig()).json).toBe('{"Network":"10.7.0.0/16"}');
    await registry.create(subnets('10.7.1.0/24'), host('192.0.2.1'), 100);
    expect(server.control(['get', '--prefix', '--keys-only', 'kube-centos/network/subnets']).trim()).toBe(
      'kube-centos/network/subnets/10.7.1.0-24',
    );
    expect((await registry.list()).leases).toHaveLength(1);
    await registry.close();
  });
});
