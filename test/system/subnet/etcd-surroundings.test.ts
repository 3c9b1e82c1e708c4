import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { patient } from '../../../src/lab/patience.js';
import { EtcdRegistry } from '../../../src/subnet/etcd/etcd-registry.js';
import { host, subnets } from '../../support/registry-suite.js';
import { type EtcdServer, makeEtcd, whyNoEtcd } from '../support/etcd.js';
import { ManagedHost } from '../support/managed-host.js';

const PREFIX = '/coreos.com/network';
const CONFIG = '{"Network":"10.5.0.0/16"}';
const PATIENCE = { timeout: patient(30_000), interval: 50 };
const reason = whyNoEtcd();

describe.skipIf(reason !== '')(`what is around a real etcd ${reason}`, () => {
  let etcd: EtcdServer;
  const open: { close(): Promise<void> }[] = [];

  afterEach(async () => {
    vi.unstubAllEnvs();
    for (const one of open.splice(0)) await one.close();
    await etcd.destroy();
  });

  it.each(['http_proxy', 'https_proxy', 'grpc_proxy'])('%s does not get between us and it', async (variable) => {
    etcd = await makeEtcd();
    vi.stubEnv(variable, 'http://127.0.0.1:1'); // nobody listens there
    const registry = new EtcdRegistry({ endpoints: [etcd.endpoint] }, silentLogger());
    open.push(registry);
    await registry.setConfig(CONFIG, null);
    expect((await registry.getConfig()).json).toBe(CONFIG);
  });

  it('a host’s own list of authorities is believed', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'tweed-authority-'));
    try {
      const file = (name: string) => join(directory, name);
      const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
      const subject = ['-subj', '/CN=etcd', '-addext', 'subjectAltName=IP:127.0.0.1'];
      const files = ['-keyout', file('key'), '-out', file('certificate')];
      execFileSync('openssl', ['req', '-x509', ...curve, ...subject, ...files], { stdio: 'pipe' });
      etcd = await makeEtcd({
        scheme: 'https',
        flags: [`--cert-file=${file('certificate')}`, `--key-file=${file('key')}`],
        clientFlags: [`--cacert=${file('certificate')}`],
      });
      vi.stubEnv('SSL_CERT_FILE', file('certificate'));
      const registry = new EtcdRegistry({ endpoints: [etcd.endpoint] }, silentLogger());
      open.push(registry);
      expect((await registry.getConfig()).json).toBeNull();
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  describe('that is full', () => {
    const put = (key: string, value: string) => etcd.control(['put', key, value]);

    beforeEach(async () => {
      etcd = await makeEtcd({ flags: ['--quota-backend-bytes=200000'] });
      put(`${PREFIX}/config`, CONFIG);
      put(`${PREFIX}/subnets/10.5.250.0-24`, '{"PublicIP":"192.0.2.50"}');
    });

    /** Until etcd raises its alarm NOSPACE, and refuses every write from then on. */
    function fill(): void {
      const value = 'x'.repeat(60_000);
      for (let index = 0; index < 20; index++) {
        try {
          put(`/filling/${index}`, value);
        } catch (error) {
          expect(String((error as { stderr: unknown }).stderr)).toContain('database space exceeded');
          return;
        }
      }
      throw new Error('etcd has not become full');
    }

    it('refuses the renewal, and the watch goes on untouched until there is room again', async () => {
      const one = await new ManagedHost('192.0.2.1', { endpoints: [etcd.endpoint] }, { ttlSeconds: 4 }).start();
      open.push(one);
      await vi.waitFor(() => expect(one.connection).toBe('up'), PATIENCE);
      const warnings = () => one.lines.filter(({ level }) => level === 'warn');
      const complaints = () => warnings().filter(({ message }) => message.includes('cannot renew the own lease'));
      fill();
      await vi.waitFor(() => expect(complaints()).toHaveLength(1), PATIENCE);
      expect(complaints()[0]?.fields.reason).toMatch(/refused: .*space exceeded.*alarm disarm/);

      // The lease runs out, and every try to take the subnet again is refused.
      const keys = () => etcd.control(['get', '--prefix', '--keys-only', `${PREFIX}/subnets/`]);
      await vi.waitFor(() => expect(keys()).not.toContain(one.subnet.replace('/', '-')), PATIENCE);
      await vi.waitFor(() => expect(warnings().at(-1)?.message).toMatch(/has disappeared/), PATIENCE);
      etcd.control(['del', `${PREFIX}/subnets/10.5.250.0-24`]); // which a full etcd lets one do
      await vi.waitFor(() => expect(one.peers.size).toBe(0), PATIENCE);
      expect(one.events.filter((event) => event === 'down')).toEqual([]);
      expect(warnings()).toHaveLength(2);

      etcd.control(['del', '--prefix', '/filling/']);
      const revision = /"revision":(\d+)/.exec(etcd.control(['get', 'nothing', '-w', 'json']))?.[1] as string;
      etcd.control(['compact', revision]);
      etcd.control(['defrag']);
      etcd.control(['alarm', 'disarm']);
      await vi.waitFor(() => expect(one.events).toContain('re-acquired'), PATIENCE);
      expect(keys()).toContain(one.subnet.replace('/', '-'));
    });

    it('says what to do to whoever writes into it', async () => {
      const registry = new EtcdRegistry({ endpoints: [etcd.endpoint] }, silentLogger());
      open.push(registry);
      fill();
      await expect(registry.create(subnets('10.5.3.0/24'), host('192.0.2.3'), 60)).rejects.toThrow(
        /database space exceeded; where its space is exceeded, compact and defragment it, then "etcdctl alarm disarm"$/,
      );
    });
  });
});
