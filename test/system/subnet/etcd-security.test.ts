import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { patient } from '../../../src/lab/patience.js';
import { RegistryDeniedError, RegistryError } from '../../../src/subnet/errors.js';
import { EtcdRegistry, type EtcdRegistryOptions } from '../../../src/subnet/etcd/etcd-registry.js';
import { recordingLogger } from '../../support/manager-harness.js';
import { host, subnets } from '../../support/registry-suite.js';
import { type EtcdServer, makeEtcd, whyNoEtcd } from '../support/etcd.js';
import { ManagedHost } from '../support/managed-host.js';

const CONFIG = '{"Network":"10.5.0.0/16"}';
const PASSWORD = 'correct horse';
const PATIENCE = { timeout: patient(30_000), interval: 50 };
const reason = whyNoEtcd();

/** An authority, a server certificate for 127.0.0.1 and a client certificate, in one directory. */
function makeCertificates(directory: string): (name: string) => string {
  const at = (name: string) => join(directory, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  for (const authority of ['ca', 'stranger']) {
    openssl(
      'req',
      '-x509',
      ...key,
      '-days',
      '1',
      '-subj',
      `/CN=${authority}`,
      '-keyout',
      at(`${authority}.key`),
      '-out',
      at(`${authority}.pem`),
    );
  }
  for (const name of ['server', 'client']) {
    openssl('req', ...key, '-subj', `/CN=${name}`, '-keyout', at(`${name}.key`), '-out', at(`${name}.csr`));
    writeFileSync(
      at('extensions'),
      'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n',
    );
    openssl(
      'x509',
      '-req',
      '-in',
      at(`${name}.csr`),
      '-CA',
      at('ca.pem'),
      '-CAkey',
      at('ca.key'),
      '-CAcreateserial',
      '-days',
      '1',
      '-extfile',
      at('extensions'),
      '-out',
      at(`${name}.pem`),
    );
  }
  return at;
}

describe.skipIf(reason !== '')(`a guarded etcd ${reason}`, () => {
  let directory: string;
  let file: (name: string) => string;
  const open: (EtcdRegistry | ManagedHost)[] = [];

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'tweed-certificates-'));
    file = makeCertificates(directory);
  });

  afterAll(() => rmSync(directory, { recursive: true }));

  afterEach(async () => {
    for (const one of open.splice(0)) await one.close();
  });

  function connect(options: EtcdRegistryOptions) {
    const { log, lines } = recordingLogger();
    const registry = new EtcdRegistry({ callTimeoutMs: 3_000, ...options }, log);
    open.push(registry);
    return { registry, lines };
  }

  async function follow(options: EtcdRegistryOptions): Promise<ManagedHost> {
    const one = await new ManagedHost('192.0.2.1', options).start();
    open.push(one);
    await vi.waitFor(() => expect(one.connection).toBe('up'), PATIENCE);
    return one;
  }

  const failure = (registry: EtcdRegistry) =>
    registry.getConfig().then(
      () => null,
      (error: unknown) => error as Error,
    );

  describe('by TLS', () => {
    let etcd: EtcdServer;

    beforeAll(async () => {
      etcd = await makeEtcd({
        scheme: 'https',
        flags: [`--cert-file=${file('server.pem')}`, `--key-file=${file('server.key')}`],
        clientFlags: [`--cacert=${file('ca.pem')}`],
      });
    });

    afterAll(() => etcd.destroy());

    it('needs no more than the authority’s certificate', async () => {
      const { registry } = connect({ endpoints: [etcd.endpoint], caFile: file('ca.pem') });
      await registry.setConfig(CONFIG, null);
      const one = await follow({ endpoints: [etcd.endpoint], caFile: file('ca.pem') });
      await registry.create(subnets('10.5.250.0/24'), host('192.0.2.50'), 60);
      await vi.waitFor(() => expect(one.peers.has('10.5.250.0/24')).toBe(true), PATIENCE);
    });

    it('is spoken to over TLS even where the endpoint says http', async () => {
      const { registry, lines } = connect({
        endpoints: [etcd.endpoint.replace('https', 'http')],
        caFile: file('ca.pem'),
      });
      await expect(registry.getConfig()).resolves.toBeDefined();
      expect(lines[0]?.message).toMatch(/over TLS/);
    });

    it('is not trusted under another authority, nor under those of the system', async () => {
      const stranger = connect({ endpoints: [etcd.endpoint], caFile: file('stranger.pem') });
      expect((await failure(stranger.registry))?.message).toMatch(/certificate/);
      const system = connect({ endpoints: [etcd.endpoint] });
      expect((await failure(system.registry))?.message).toMatch(/certificate/);
    });

    it('is reached again once a wrong certificate file was replaced', async () => {
      copyFileSync(file('stranger.pem'), file('changing.pem'));
      const { registry } = connect({ endpoints: [etcd.endpoint], caFile: file('changing.pem') });
      expect(await failure(registry)).toBeInstanceOf(RegistryError);
      copyFileSync(file('ca.pem'), file('changing.pem'));
      await vi.waitFor(async () => expect(await failure(registry)).toBeNull(), PATIENCE);
    });
  });

  describe('by client certificates', () => {
    let etcd: EtcdServer;

    beforeAll(async () => {
      etcd = await makeEtcd({
        scheme: 'https',
        flags: [
          `--cert-file=${file('server.pem')}`,
          `--key-file=${file('server.key')}`,
          `--trusted-ca-file=${file('ca.pem')}`,
          '--client-cert-auth',
        ],
        clientFlags: [`--cacert=${file('ca.pem')}`, `--cert=${file('client.pem')}`, `--key=${file('client.key')}`],
      });
    });

    afterAll(() => etcd.destroy());

    it('lets in whoever has one', async () => {
      const { registry } = connect({
        endpoints: [etcd.endpoint],
        caFile: file('ca.pem'),
        certFile: file('client.pem'),
        keyFile: file('client.key'),
      });
      await registry.setConfig(CONFIG, null);
      expect((await registry.getConfig()).json).toBe(CONFIG);
    });

    it('and nobody else', async () => {
      const { registry } = connect({ endpoints: [etcd.endpoint], caFile: file('ca.pem') });
      expect(await failure(registry)).toBeInstanceOf(RegistryError);
    });
  });

  describe('by user and password', () => {
    let etcd: EtcdServer;
    const asRoot = ['--user', `root:${PASSWORD}`];

    beforeAll(async () => {
      etcd = await makeEtcd();
      etcd.control(['put', '/coreos.com/network/config', CONFIG]);
      for (const command of [
        ['user', 'add', `root:${PASSWORD}`],
        ['user', 'grant-role', 'root', 'root'],
        ['user', 'add', `tweed:${PASSWORD}`],
        ['role', 'add', 'overlay'],
        ['role', 'grant-permission', '--prefix=true', 'overlay', 'readwrite', '/coreos.com/network/'],
        ['user', 'grant-role', 'tweed', 'overlay'],
        ['auth', 'enable'],
      ]) {
        etcd.control(command);
      }
    });

    afterAll(() => etcd.destroy());

    const asTweed = () => ({ endpoints: [etcd.endpoint], username: 'tweed', password: PASSWORD });

    it('lets a user in who has the rights to the prefix', async () => {
      const one = await follow(asTweed());
      etcd.control(['put', '/coreos.com/network/subnets/10.5.250.0-24', '{"PublicIP":"192.0.2.50"}'], asRoot);
      await vi.waitFor(() => expect(one.peers.has('10.5.250.0/24')).toBe(true), PATIENCE);
    });

    it('logs in again when etcd has forgotten the login', async () => {
      const one = await follow(asTweed());
      await etcd.kill(); // logins live in its memory
      await etcd.start();
      etcd.control(['put', '/coreos.com/network/subnets/10.5.251.0-24', '{"PublicIP":"192.0.2.51"}'], asRoot);
      await vi.waitFor(() => expect(one.peers.has('10.5.251.0/24')).toBe(true), PATIENCE);
      // The peers of the list are announced before the watch that follows it stands.
      await vi.waitFor(() => expect(one.connection).toBe('up'), PATIENCE);
    });

    it('goes on when users and roles are changed', async () => {
      const { registry } = connect(asTweed());
      await registry.getConfig();
      etcd.control(['user', 'add', 'another:one'], asRoot);
      await registry.setConfig(CONFIG, null);
    });

    it.each([
      ['a wrong password', { username: 'tweed', password: 'hunter2' }],
      ['an unknown user', { username: 'nobody', password: 'hunter2' }],
      ['no user at all', {}],
      ['a prefix without rights', { username: 'tweed', password: PASSWORD, prefix: '/elsewhere' }],
    ])('refuses %s, and the error says what to check but no password', async (_, options) => {
      const { registry, lines } = connect({ endpoints: [etcd.endpoint], ...options });
      const error = (await failure(registry)) as Error;
      expect(error).toBeInstanceOf(RegistryDeniedError);
      expect(error.message).toMatch(/check the user name, the password and the user’s permissions$/);
      expect(JSON.stringify([error.message, error.stack, String(error.cause), lines])).not.toMatch(
        /hunter2|correct horse/,
      );
    });
  });
});
