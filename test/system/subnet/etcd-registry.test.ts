import { afterAll, beforeAll, describe } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { EtcdRegistry } from '../../../src/subnet/etcd/etcd-registry.js';
import { type RegistryFixture, registrySuite } from '../../support/registry-suite.js';
import { type EtcdServer, makeEtcd, whyNoEtcd } from '../support/etcd.js';

const reason = whyNoEtcd();

describe.skipIf(reason !== '')(`etcd registry ${reason}`, () => {
  let server: EtcdServer;
  let prefixes = 0;

  beforeAll(async () => {
    server = await makeEtcd();
  });

  afterAll(() => server.destroy());

  registrySuite('shared behaviour', async (): Promise<RegistryFixture> => {
    const prefix = `/test/${prefixes++}`;
    const path = (key: string) => `${prefix}/subnets/${key}`;
    return {
      open: async () => new EtcdRegistry({ endpoints: [server.endpoint], prefix }, silentLogger()),
      writeRaw: async (key, value) => {
        server.control(value === null ? ['del', path(key)] : ['put', '--', path(key), value]);
      },
      readRaw: async (key) => server.control(['get', '--print-value-only', path(key)]).replace(/\n$/, '') || null,
      forget: async () => {
        server.control(['put', `${prefix}/other`, '1']);
        const answer = server.control(['put', `${prefix}/other`, '2', '--write-out=json']);
        server.control(['compact', String((JSON.parse(answer) as { header: { revision: number } }).header.revision)]);
      },
      shortTtl: 1,
      destroy: async () => {},
    };
  });
});
