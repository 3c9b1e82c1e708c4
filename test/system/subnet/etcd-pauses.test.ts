import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { patient } from '../../../src/lab/patience.js';
import { type EtcdServer, makeEtcd, whyNoEtcd } from '../support/etcd.js';
import { ManagedHost } from '../support/managed-host.js';
import { TcpProxy } from '../support/tcp-proxy.js';

const PREFIX = '/coreos.com/network';
const PATIENCE = { timeout: patient(40_000), interval: 100 };
const HOLDER = new URL('../support/lease-holder.mjs', import.meta.url).pathname;
const BUILT = new URL('../../../dist/subnet/leases/lease-manager.js', import.meta.url).pathname;
const reason = whyNoEtcd();

interface News {
  readonly news: string;
  readonly key?: string;
  readonly message?: string;
}

describe.skipIf(reason !== '')(`pauses and silence ${reason}`, () => {
  let etcd: EtcdServer;
  let child: ChildProcess | null = null;

  beforeAll(() => {
    if (!existsSync(BUILT)) throw new Error('the code is not built; run "npm run build"');
  });

  beforeEach(async () => {
    etcd = await makeEtcd();
    etcd.control(['put', `${PREFIX}/config`, '{"Network":"10.5.0.0/16"}']);
  });

  afterEach(async () => {
    child?.kill('SIGKILL');
    child = null;
    await etcd.destroy();
  });

  /** Starts a host as a process with a lease of two seconds, stops it, and waits until its lease has expired. */
  async function stopUntilExpired() {
    const holder = spawn(process.execPath, [HOLDER, etcd.endpoint, '192.0.2.1', '2'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    child = holder;
    const news: News[] = [];
    createInterface({ input: holder.stdout }).on('line', (line) => news.push(JSON.parse(line) as News));
    await vi.waitFor(() => expect(news[0]?.news).toBe('leased'), PATIENCE);
    const key = `${PREFIX}/subnets/${news[0]?.key}`;
    holder.kill('SIGSTOP');
    await vi.waitFor(() => expect(etcd.control(['get', '--keys-only', key])).toBe(''), PATIENCE);
    return { holder, news, key };
  }

  it('a process that was stopped for longer than its lease takes its subnet again', async () => {
    const { holder, news, key } = await stopUntilExpired();
    holder.kill('SIGCONT');
    await vi.waitFor(() => expect(news.map((item) => item.news)).toContain('re-acquired'), PATIENCE);
    expect(etcd.control(['get', '--print-value-only', key])).toContain('192.0.2.1');
    expect(holder.exitCode).toBeNull();
  });

  it('and gives up when somebody else has it by then', async () => {
    const { holder, news, key } = await stopUntilExpired();
    etcd.control(['put', key, '{"PublicIP":"192.0.2.66","PublicIPv6":null}']);
    const ended = new Promise((resolve) => holder.once('exit', resolve));
    holder.kill('SIGCONT');
    expect(await ended).toBe(3);
    expect(news.at(-1)?.message).toMatch(/host 192\.0\.2\.66 holds it now/);
    expect(etcd.control(['get', '--print-value-only', key])).toContain('192.0.2.66');
  });

  it('a connection that goes silent without being closed is noticed and replaced', async () => {
    const { hostname, port } = new URL(etcd.endpoint);
    const proxy = await new TcpProxy({ host: hostname, port: Number(port) }).start();
    const one = new ManagedHost('192.0.2.1', { endpoints: [`http://127.0.0.1:${proxy.port}`] });
    try {
      await one.start();
      await vi.waitFor(() => expect(one.events).toContain('up'), PATIENCE);
      one.events.length = 0;
      for (let i = 0; one.announcements.length < 2; i++) {
        // two announcements: the watch is established for certain
        etcd.control(['put', `${PREFIX}/subnets/10.5.249.0-24`, `{"PublicIP":"192.0.3.${i}"}`]);
        await delay(100);
      }
      proxy.cut();
      etcd.control(['put', `${PREFIX}/subnets/10.5.250.0-24`, '{"PublicIP":"192.0.2.50"}']);
      await vi.waitFor(() => expect(one.connection).toBe('down'), PATIENCE);
      expect([...one.peers.keys()]).toEqual(['10.5.249.0/24']);
      proxy.mend();
      await vi.waitFor(
        () => expect([one.peers.get('10.5.250.0/24'), one.connection]).toEqual(['192.0.2.50', 'up']),
        PATIENCE,
      );
    } finally {
      await one.close();
      await proxy.close();
    }
  });
});
