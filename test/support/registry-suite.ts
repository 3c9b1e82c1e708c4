import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { formatPrefix, type Prefix, parseIpv4, parsePrefix } from '../../src/base/ipv4.js';
import { parseIpv6Prefix } from '../../src/base/ipv6.js';
import { patient } from '../../src/lab/patience.js';
import {
  CompactedError,
  ConfigChangedError,
  ForeignOwnerError,
  LeaseExistsError,
  LeaseGoneError,
} from '../../src/subnet/errors.js';
import { type LeaseAttributes, type Subnets, subnetName } from '../../src/subnet/lease.js';
import type { Registry, StoredLease, WatchEvent } from '../../src/subnet/registry.js';

/** What the shared suite needs of an implementation, beyond its interface. */
export interface RegistryFixture {
  /** Another client of the same, at first empty, store. */
  open(): Promise<Registry>;
  /** Writes one raw value under the leases, as an operator's mistake or a reservation would; null deletes it. */
  writeRaw(key: string, value: string | null): Promise<void>;
  readRaw(key: string): Promise<string | null>;
  /** Makes the changes since that revision unavailable. */
  forget(registry: Registry): Promise<void>;
  /** The shortest time to live that works, in seconds. */
  readonly shortTtl: number;
  destroy(): Promise<void>;
}

/** A host's subnet, in one half or two. */
export function subnets(v4: string | null, v6: string | null = null): Subnets {
  return { subnet: v4 === null ? null : subnet(v4), subnetV6: v6 === null ? null : parseIpv6Prefix(v6) };
}

export function subnet(text: string): Prefix {
  return parsePrefix(text) as Prefix;
}

export function host(address: string): LeaseAttributes {
  return { publicIp: parseIpv4(address) as number, publicIpv6: null };
}

/** The behaviour that every registry shares. */
export function registrySuite(name: string, makeFixture: () => Promise<RegistryFixture>): void {
  describe(name, () => {
    let fixture: RegistryFixture;
    let registry: Registry;
    let rival: Registry;
    const stop = new Set<AbortController>();

    beforeEach(async () => {
      fixture = await makeFixture();
      registry = await fixture.open();
      rival = await fixture.open();
    });

    afterEach(async () => {
      for (const controller of stop) controller.abort();
      stop.clear();
      await registry.close();
      await rival.close();
      await fixture.destroy();
    });

    /** Follows the leases in the background. */
    async function follow(from: Registry, after: string) {
      const controller = new AbortController();
      stop.add(controller);
      const events: WatchEvent[] = [];
      let established = () => {};
      const ready = new Promise<void>((resolve) => {
        established = resolve;
      });
      const ended = from
        .watch({
          after,
          signal: controller.signal,
          onEstablished: established,
          onEvents: (batch) => events.push(...batch),
        })
        .then(
          () => null,
          (error: unknown) => error,
        );
      await Promise.race([ready, ended]);
      return { events, ended, abort: () => controller.abort() };
    }

    const keyOf = (event: WatchEvent) =>
      event.kind === 'put' ? event.lease.key : event.kind === 'delete' ? event.key : event.entry.key;

    it('has no config and no leases at first', async () => {
      expect((await registry.getConfig()).json).toBeNull();
      const { leases, malformed } = await registry.list();
      expect(leases).toEqual([]);
      expect(malformed).toEqual([]);
    });

    it('writes the config only over the version that the writer has read', async () => {
      const before = await registry.getConfig();
      await registry.setConfig('{"Network":"10.5.0.0/16"}', before.version);
      await expect(rival.setConfig('{"Network":"10.6.0.0/16"}', before.version)).rejects.toThrow(ConfigChangedError);
      expect((await rival.getConfig()).json).toBe('{"Network":"10.5.0.0/16"}');
      await rival.setConfig('{"Network":"10.7.0.0/16"}', null);
      expect((await registry.getConfig()).json).toBe('{"Network":"10.7.0.0/16"}');
    });

    it('tells about a changed config', async () => {
      await registry.setConfig('{"Network":"10.5.0.0/16"}', null);
      const { revision } = await registry.getConfig();
      const controller = new AbortController();
      stop.add(controller);
      const seen: (string | null)[] = [];
      await new Promise<void>((resolve, reject) => {
        registry
          .watchConfig({
            after: revision,
            signal: controller.signal,
            onEstablished: resolve,
            onEvents: (texts) => seen.push(...texts),
          })
          .catch(reject);
      });
      await rival.setConfig('{"Network":"10.6.0.0/16"}', null);
      await vi.waitFor(() => expect(seen.at(-1)).toBe('{"Network":"10.6.0.0/16"}'), patient(10_000));
    });

    it('creates a lease that everybody sees', async () => {
      const created = await registry.create(subnets('10.5.34.0/24'), host('192.0.2.1'), 3600);
      expect(created.key).toBe('10.5.34.0-24');
      expect(created.reservation).toBe(false);
      expect(created.expiresAt).toBeGreaterThan(Date.now() + 3_500_000);
      const [lease, ...others] = (await rival.list({ expirations: true })).leases;
      expect(others).toEqual([]);
      expect(subnetName(lease as StoredLease)).toBe('10.5.34.0/24');
      expect(lease?.attributes).toEqual(host('192.0.2.1'));
      expect(lease?.version).toBe(created.version);
      expect(lease?.expiresAt).toBeGreaterThan(Date.now() + 3_500_000);
      expect(lease?.expiresAt).toBeLessThan(Date.now() + 3_700_000);
    });

    it('refuses to create what exists', async () => {
      await registry.create(subnets('10.5.34.0/24'), host('192.0.2.1'), 3600);
      await expect(rival.create(subnets('10.5.34.0/24'), host('192.0.2.2'), 3600)).rejects.toThrow(LeaseExistsError);
      expect((await registry.list()).leases[0]?.attributes).toEqual(host('192.0.2.1'));
    });

    it('lets exactly one of many win a subnet', async () => {
      const tries = Array.from({ length: 12 }, (_, i) =>
        (i % 2 === 0 ? registry : rival).create(subnets('10.5.34.0/24'), host(`192.0.2.${i + 1}`), 3600).then(
          (lease) => lease.attributes.publicIp,
          (error: unknown) => {
            expect(error).toBeInstanceOf(LeaseExistsError);
            return null;
          },
        ),
      );
      const winners = (await Promise.all(tries)).filter((winner) => winner !== null);
      expect(winners).toHaveLength(1);
      expect((await registry.list()).leases.map((lease) => lease.attributes.publicIp)).toEqual(winners);
    });

    it('renews with new attributes and a new version', async () => {
      const created = await registry.create(subnets('10.5.34.0/24'), host('192.0.2.1'), 60);
      const renewed = await registry.renew(created, { ...host('192.0.2.1'), backendType: 'vxlan' }, 3600);
      expect(renewed.version).not.toBe(created.version);
      expect(renewed.expiresAt).toBeGreaterThan(Date.now() + 3_500_000);
      const [lease] = (await rival.list({ expirations: true })).leases;
      expect(lease?.attributes.backendType).toBe('vxlan');
      expect(lease?.expiresAt).toBeGreaterThan(Date.now() + 3_500_000);
    });

    it('renews although somebody touched the key meanwhile', async () => {
      const created = await registry.create(subnets('10.5.34.0/24'), host('192.0.2.1'), 60);
      await rival.renew(created, host('192.0.2.1'), 60);
      await expect(registry.renew(created, host('192.0.2.1'), 60)).resolves.toMatchObject({ key: '10.5.34.0-24' });
    });

    it('never overwrites or deletes the lease of another host under our key', async () => {
      const created = await registry.create(subnets('10.5.34.0/24'), host('192.0.2.1'), 60);
      await registry.remove(created);
      await rival.create(subnets('10.5.34.0/24'), host('192.0.2.2'), 60);
      await expect(registry.renew(created, host('192.0.2.1'), 60)).rejects.toThrow(ForeignOwnerError);
      await expect(registry.renew(created, host('192.0.2.3'), 60)).rejects.toThrow(ForeignOwnerError);
      await expect(registry.remove(created)).rejects.toThrow(ForeignOwnerError);
      expect((await registry.list()).leases.map((lease) => lease.attributes)).toEqual([host('192.0.2.2')]);
    });

    it('moves a lease to another public address in one write, unless another host has it by now', async () => {
      const created = await registry.create(subnets('10.5.34.0/24'), host('192.0.2.1'), 60);
      const moved = await registry.renew(created, host('192.0.2.9'), 60);
      expect(moved).toMatchObject({ key: created.key, attributes: host('192.0.2.9') });
      expect((await registry.list()).leases.map((lease) => lease.attributes)).toEqual([host('192.0.2.9')]);
      await expect(rival.renew(created, host('192.0.2.2'), 60)).rejects.toThrow(ForeignOwnerError);
    });

    it('says so when the lease to be renewed is gone', async () => {
      const created = await registry.create(subnets('10.5.34.0/24'), host('192.0.2.1'), 60);
      await rival.remove(created);
      await expect(registry.renew(created, host('192.0.2.1'), 60)).rejects.toThrow(LeaseGoneError);
      await expect(registry.remove(created)).resolves.toBeUndefined();
    });

    it('keeps a reservation a reservation', async () => {
      await fixture.writeRaw('10.5.40.0-24', '{"PublicIP":"192.0.2.1"}');
      const [reservation] = (await registry.list({ expirations: true })).leases as [StoredLease];
      expect(reservation).toMatchObject({ reservation: true, expiresAt: null });
      const renewed = await registry.renew(reservation, host('192.0.2.1'), 1);
      expect(renewed).toMatchObject({ reservation: true, expiresAt: null });
      expect(await fixture.readRaw('10.5.40.0-24')).toBe('{"PublicIP":"192.0.2.1","PublicIPv6":null}');
      const again = await registry.renew(renewed, host('192.0.2.1'), 1);
      expect(again.reservation).toBe(true);
      expect((await registry.list({ expirations: true })).leases[0]).toMatchObject({
        reservation: true,
        expiresAt: null,
      });
    });

    it('reports malformed keys and values beside the good ones', async () => {
      await registry.create(subnets('10.5.34.0/24'), host('192.0.2.1'), 60);
      await fixture.writeRaw('10.5.34.1-24', '{"PublicIP":"192.0.2.9"}');
      await fixture.writeRaw('10.5.35.0-24', 'not json');
      await fixture.writeRaw('0.0.0.0-0&fd00:1::-64', '{"PublicIP":"0.0.0.0","PublicIPv6":"fd00::1"}');
      const { leases, malformed } = await registry.list();
      expect(leases.map((lease) => lease.key).sort()).toEqual(['0.0.0.0-0&fd00:1::-64', '10.5.34.0-24']);
      expect(malformed.map((entry) => [entry.key, entry.subnet && formatPrefix(entry.subnet)]).sort()).toEqual([
        ['10.5.34.1-24', null],
        ['10.5.35.0-24', '10.5.35.0/24'],
      ]);
    });

    it.each([
      ['IPv4', subnets('10.5.34.0/24'), '10.5.34.0-24', host('192.0.2.1')],
      [
        'both families',
        subnets('10.5.34.0/24', 'fd00:5:0:34::/64'),
        '10.5.34.0-24&fd00:5:0:34::-64',
        host('192.0.2.1'),
      ],
      ['IPv6', subnets(null, 'fd00:5:0:34::/64'), 'fd00:5:0:34::-64', { publicIp: 0, publicIpv6: 0xfd01n << 112n }],
    ])('keeps a lease of %s, and tells of it', async (_, halves, key, attributes) => {
      const { revision } = await registry.list();
      const watch = await follow(registry, revision);
      const created = await registry.create(halves, attributes, 60);
      expect(created).toMatchObject({ key, ...halves, attributes });
      expect((await rival.list()).leases).toMatchObject([{ key, ...halves, attributes }]);
      await expect(rival.create(halves, host('192.0.2.2'), 60)).rejects.toThrow(LeaseExistsError);
      const gained = { ...attributes, publicIpv6: 0xfd02n << 112n };
      const renewed = await registry.renew(created, gained, 60);
      expect((await rival.list()).leases).toMatchObject([{ key, attributes: gained }]);
      await expect(rival.remove({ ...renewed, attributes: host('192.0.2.2') })).rejects.toThrow(ForeignOwnerError);
      await vi.waitFor(() => expect(watch.events.map(keyOf)).toContain(key), patient(5000)); // before it goes again
      await registry.remove(renewed);
      expect((await rival.list()).leases).toEqual([]);
      await vi.waitFor(() => expect(watch.events.at(-1)).toMatchObject({ kind: 'delete', key }), patient(5000));
      watch.abort();
    });

    it('expires a lease that nobody renews, and tells', async () => {
      const { revision } = await registry.list();
      const watch = await follow(registry, revision);
      await rival.create(subnets('10.5.34.0/24'), host('192.0.2.1'), fixture.shortTtl);
      await vi.waitFor(
        () => expect(watch.events.map((event) => event.kind)).toEqual(['put', 'delete']),
        patient(15_000),
      );
      expect((await registry.list()).leases).toEqual([]);
      await expect(registry.create(subnets('10.5.34.0/24'), host('192.0.2.2'), 60)).resolves.toBeDefined();
    });

    it('delivers puts, malformed values and deletes after a snapshot, and nothing before it', async () => {
      await registry.create(subnets('10.5.1.0/24'), host('192.0.2.1'), 60);
      const { revision } = await registry.list();
      const second = await rival.create(subnets('10.5.2.0/24'), host('192.0.2.2'), 60);
      const watch = await follow(registry, revision);
      await vi.waitFor(() => expect(watch.events.map(keyOf)).toEqual(['10.5.2.0-24']), patient(10_000));
      await rival.renew(second, { ...host('192.0.2.2'), backendType: 'vxlan' }, 60);
      await vi.waitFor(() => expect(watch.events).toHaveLength(2), patient(10_000));
      await fixture.writeRaw('10.5.3.0-24', '[]');
      await vi.waitFor(() => expect(watch.events).toHaveLength(3), patient(10_000));
      await rival.remove(second);
      await vi.waitFor(() => expect(watch.events).toHaveLength(4), patient(10_000));
      expect(watch.events.map((event) => `${event.kind} ${keyOf(event)}`)).toEqual([
        'put 10.5.2.0-24',
        'put 10.5.2.0-24',
        'malformed 10.5.3.0-24',
        'delete 10.5.2.0-24',
      ]);
      watch.abort();
      expect(await watch.ended).toBeNull();
    });

    it('refuses to watch from a revision whose successors are gone', async () => {
      const { revision } = await registry.list();
      await fixture.forget(registry);
      const watch = await follow(registry, revision);
      expect(await watch.ended).toBeInstanceOf(CompactedError);
    });
  });
}
