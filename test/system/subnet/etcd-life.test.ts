import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { patient } from '../../../src/lab/patience.js';
import { EtcdRegistry } from '../../../src/subnet/etcd/etcd-registry.js';
import { host, subnet } from '../../support/registry-suite.js';
import { type EtcdServer, makeEtcd, whyNoEtcd } from '../support/etcd.js';
import { ManagedHost } from '../support/managed-host.js';

const PREFIX = '/coreos.com/network';
const CONFIG = '{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}';
const PATIENCE = { timeout: patient(30_000), interval: 50 };
const reason = whyNoEtcd();

describe.skipIf(reason !== '')(`a lease manager lives with a real etcd ${reason}`, () => {
  let etcd: EtcdServer;
  const hosts: ManagedHost[] = [];

  beforeEach(async () => {
    etcd = await makeEtcd({}, false);
  });

  afterEach(async () => {
    await Promise.all(hosts.splice(0).map((one) => one.close()));
    await etcd.destroy();
  });

  function add(address: string, options: ConstructorParameters<typeof ManagedHost>[2] = {}): ManagedHost {
    const one = new ManagedHost(address, { endpoints: [etcd.endpoint] }, options);
    hosts.push(one);
    return one;
  }

  async function serve(): Promise<void> {
    await etcd.start();
    etcd.control(['put', `${PREFIX}/config`, CONFIG]);
  }

  /** Two hosts that know each other. */
  async function pair(options: ConstructorParameters<typeof ManagedHost>[2] = {}): Promise<[ManagedHost, ManagedHost]> {
    const a = await add('192.0.2.1', options).start();
    const b = await add('192.0.2.2', options).start();
    await vi.waitFor(() => {
      expect([...a.peers.keys()]).toEqual([b.subnet]);
      expect([...b.peers.keys()]).toEqual([a.subnet]);
    }, PATIENCE);
    return [a, b];
  }

  const keys = () =>
    etcd
      .control(['get', '--prefix', '--keys-only', `${PREFIX}/subnets/`])
      .split('\n')
      .filter(Boolean);

  it('waits for an etcd that is not there yet, then for a config, saying so, and then starts', async () => {
    const waiting = add('192.0.2.1');
    const started = waiting.start();
    await vi.waitFor(() => expect(waiting.lines[0]?.message).toMatch(/waiting for the registry/), PATIENCE);
    await etcd.start();
    await vi.waitFor(() => expect(waiting.lines.at(-1)?.message).toMatch(/waiting for the network config/), PATIENCE);
    etcd.control(['put', `${PREFIX}/config`, CONFIG]);
    await started;
    expect(keys()).toEqual([`${PREFIX}/subnets/${waiting.subnet.replace('/', '-')}`]);
    expect(etcd.control(['get', '--print-value-only', keys()[0] as string])).toBe(
      '{"PublicIP":"192.0.2.1","PublicIPv6":null}\n',
    );
    const [id] = etcd.control(['lease', 'list']).match(/^[0-9a-f]{10,}$/m) as RegExpMatchArray;
    expect(etcd.control(['lease', 'timetolive', id])).toContain('granted with TTL(86400s)');
  });

  it('keeps its peers while etcd is dead, and learns what happened meanwhile when it is back', async () => {
    await serve();
    const [a, b] = await pair();
    await etcd.kill();
    await vi.waitFor(() => expect([a.connection, b.connection]).toEqual(['down', 'down']), PATIENCE);
    expect([...a.peers.keys()]).toEqual([b.subnet]);
    await etcd.start();
    etcd.control(['put', `${PREFIX}/subnets/10.5.250.0-24`, '{"PublicIP":"192.0.2.50"}']);
    await vi.waitFor(() => {
      expect([a.connection, b.connection]).toEqual(['up', 'up']);
      expect(a.peers.get('10.5.250.0/24')).toBe('192.0.2.50');
      expect(b.peers.get('10.5.250.0/24')).toBe('192.0.2.50');
    }, PATIENCE);
    expect(a.peers.size).toBe(2);
    expect([a.lost, b.lost]).toEqual([[], []]);
  });

  it('puts everything back after an etcd that lost its data', async () => {
    await serve();
    const [a, b] = await pair();
    etcd.control(['put', `${PREFIX}/subnets/10.5.250.0-24`, '{"PublicIP":"192.0.2.50"}']);
    await vi.waitFor(() => expect(a.peers.size).toBe(2), PATIENCE);
    await etcd.kill();
    await etcd.wipe();
    await etcd.start();
    await vi.waitFor(() => {
      expect(keys()).toHaveLength(2);
      expect([...a.peers]).toEqual([[b.subnet, '192.0.2.2']]);
      expect([...b.peers]).toEqual([[a.subnet, '192.0.2.1']]);
    }, PATIENCE);
    expect(a.events).toContain('re-acquired');
    expect([a.lost, b.lost]).toEqual([[], []]);
  });

  it('survives an etcd that is stopped for longer than the time to live', async () => {
    await serve();
    const [a, b] = await pair({ ttlSeconds: 3 });
    const renewals = () => Math.min(...[a, b].map(({ events }) => events.filter((one) => one === 'renewed').length));
    etcd.pause();
    // Both leases end by etcd's own clock, which does not stop: no answer of a stopped etcd can have renewed them later.
    await delay(3_500);
    expect([...a.peers.keys()]).toEqual([b.subnet]);
    etcd.resume();
    await vi.waitFor(() => {
      expect(keys()).toHaveLength(2);
      expect([a.connection, b.connection]).toEqual(['up', 'up']);
      expect([...a.peers]).toEqual([[b.subnet, '192.0.2.2']]);
    }, PATIENCE);
    const before = renewals();
    await vi.waitFor(() => expect(renewals()).toBeGreaterThanOrEqual(before + 2), PATIENCE); // and they go on
    expect(keys()).toHaveLength(2);
    expect([a.lost, b.lost]).toEqual([[], []]);
  });

  it('renews leases of seconds, and leaves no replaced etcd leases behind', async () => {
    await serve();
    const [a] = await pair({ ttlSeconds: 3 });
    await vi.waitFor(() => expect(a.events.filter((event) => event === 'renewed').length).toBeGreaterThan(3), PATIENCE);
    expect(keys()).toHaveLength(2);
    expect(a.events).not.toContain('re-acquired');
    const leases = etcd.control(['lease', 'list']).match(/^[0-9a-f]{10,}$/gm) ?? [];
    expect(leases.length).toBeLessThanOrEqual(3); // one may be in the middle of being replaced
  });

  it('sees a dead host expire, and a new one take its subnet over', async () => {
    await serve();
    etcd.control(['put', `${PREFIX}/config`, '{"Network":"10.5.0.0/24","SubnetLen":26,"SubnetMax":"10.5.0.128"}']);
    const [a, b] = await pair({ ttlSeconds: 3 });
    await b.close();
    await vi.waitFor(() => expect(a.peers.size).toBe(0), PATIENCE);
    const c = await add('192.0.2.3', { ttlSeconds: 3 }).start(); // only one subnet is left for it
    expect(c.subnet).toBe(b.subnet);
    await vi.waitFor(() => expect([...a.peers]).toEqual([[b.subnet, '192.0.2.3']]), PATIENCE);
  });

  it('gives up when another host writes itself over the key', async () => {
    await serve();
    const [a, b] = await pair();
    const key = `${PREFIX}/subnets/${a.subnet.replace('/', '-')}`;
    etcd.control(['put', key, '{"PublicIP":"192.0.2.66","PublicIPv6":null}']);
    await vi.waitFor(() => expect(a.lost[0]?.message).toMatch(/host 192\.0\.2\.66 holds it now/), PATIENCE);
    await vi.waitFor(() => expect(b.peers.get(a.subnet)).toBe('192.0.2.66'), PATIENCE);
    expect(etcd.control(['get', '--print-value-only', key])).toContain('192.0.2.66');
  });

  it('lists again when the history it needs was compacted while it was away', async () => {
    await serve();
    const [a, b] = await pair();
    await b.close();
    await etcd.kill();
    await etcd.start();
    let revision = '';
    for (let i = 0; i < 20; i++) {
      const answer = etcd.control([
        'put',
        `${PREFIX}/subnets/10.5.249.0-24`,
        `{"PublicIP":"192.0.2.${i}"}`,
        '-w',
        'json',
      ]);
      revision = String((JSON.parse(answer) as { header: { revision: number } }).header.revision);
    }
    etcd.control(['compact', revision]);
    await vi.waitFor(() => expect(a.peers.get('10.5.249.0/24')).toBe('192.0.2.19'), PATIENCE);
    etcd.control(['put', `${PREFIX}/subnets/10.5.249.0-24`, '{"PublicIP":"192.0.2.77"}']);
    await vi.waitFor(() => expect(a.peers.get('10.5.249.0/24')).toBe('192.0.2.77'), PATIENCE);
    expect(a.lines.length).toBeLessThan(12);
  });

  it('logs a poisoned key once and goes on', async () => {
    await serve();
    const [a, b] = await pair();
    for (let i = 0; i < 5; i++) etcd.control(['put', `${PREFIX}/subnets/10.5.1.1-24`, 'garbage']);
    etcd.control(['put', `${PREFIX}/subnets/${b.subnet.replace('/', '-')}`, '[]']);
    etcd.control(['put', `${PREFIX}/subnets/10.5.250.0-24`, '{"PublicIP":"192.0.2.50"}']);
    await vi.waitFor(() => expect(a.peers.size).toBe(2), PATIENCE);
    expect(a.peers.get(b.subnet)).toBe('192.0.2.2');
    const told = a.lines.filter(
      ({ message, fields }) => message.includes('cannot be read') && fields.key === '10.5.1.1-24',
    );
    expect(told).toHaveLength(1);
    // the other one belongs to a host that lives, and that writes its own again
    await vi.waitFor(
      () => expect(a.manager.status().malformed.map(({ key }) => key)).toEqual(['10.5.1.1-24']),
      PATIENCE,
    );
    expect(b.lost).toEqual([]);
    expect(b.events).toContain('restored');
  });

  it('applies 2,000 leases that appear and vanish at once', async () => {
    await etcd.start();
    etcd.control(['put', `${PREFIX}/config`, '{"Network":"10.0.0.0/8"}']);
    const a = await add('192.0.2.1').start();
    const other = new EtcdRegistry({ endpoints: [etcd.endpoint] }, silentLogger());
    try {
      const created: Promise<{ key: string }>[] = [];
      for (let i = 0; i < 2_000; i++) {
        const prefix = subnet(`10.${100 + (i >> 8)}.${i & 255}.0/24`);
        created.push(other.create({ subnet: prefix, subnetV6: null }, host(`198.51.${i >> 8}.${i & 255}`), 600));
        if (created.length % 100 === 0) await Promise.all(created.slice(-100));
      }
      await Promise.all(created);
      const written = performance.now();
      await vi.waitFor(() => expect(a.peers.size).toBe(2_000), PATIENCE);
      const applied = performance.now();
      const announcements = a.announcements.length;
      etcd.control(['del', '--prefix', `${PREFIX}/subnets/10.10`]);
      const deleted = performance.now();
      await vi.waitFor(() => expect(a.peers.size).toBeLessThanOrEqual(2_000 - 1_900), PATIENCE);
      const gone = performance.now();
      process.stdout.write(
        `2,000 leases: all known ${Math.round(applied - written)} ms after the last was written, in ${announcements} announcements; ` +
          `deleted at once: ${Math.round(gone - deleted)} ms, in ${a.announcements.length - announcements}\n`,
      );
    } finally {
      await other.close();
    }
  });
});
