/**
 * The whole of a daemon as a property: a registry, an underlay and a host that are scripted. Whatever happens in whatever
 * order, the host ends up with what the inputs call for, and with nothing once the daemon has stopped or had to leave.
 */
import fc from 'fast-check';
import { expect, it, vi } from 'vitest';
import { formatPrefix, type Prefix } from '../../../src/base/ipv4.js';
import { silentLogger } from '../../../src/base/log.js';
import { encodeLeaseValue } from '../../../src/subnet/keys.js';
import { LeaseManager } from '../../../src/subnet/leases/lease-manager.js';
import { FakeClock } from '../../support/fake-clock.js';
import { MemoryRegistry, MemoryStore } from '../../support/memory-registry.js';
import { host } from '../../support/registry-suite.js';
import { address, World } from './fakes.js';

const OWN_KEY = '10.5.1.0-24';
const CONFIG = '{"Network":"10.5.0.0/16"}';
const DAY_S = 86_400;
/** More than any pause between two tries. */
const LONG_MS = 90_000;

const underlays = [
  { name: 'eth0', index: 2, address: address('192.0.2.1'), prefixLength: 24, ipv6: null, mtu: 1500 },
  { name: 'eth0', index: 2, address: address('192.0.2.1'), prefixLength: 24, ipv6: null, mtu: 9000 },
  { name: 'eth1', index: 3, address: address('198.51.100.1'), prefixLength: 24, ipv6: null, mtu: 1400 },
] as const;
const ownAddresses = ['192.0.2.1', '192.0.2.1', '198.51.100.1'] as const;

const plainEvents = [
  'registry goes',
  'registry returns',
  'registry forgets everything',
  'another network is stored',
  'a wrong config is stored',
  'history is compacted',
  'own key is deleted',
  'own key is damaged',
  'own key is taken',
  'rules are removed',
  'peers cannot be set',
  'peers can be set',
  'a peer leads through the overlay',
  'a key is garbage',
  'a day passes',
] as const;

const event = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('peer comes' as const),
      subnet: fc.integer({ min: 2, max: 5 }),
      owner: fc.integer({ min: 2, max: 5 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('peer goes' as const), subnet: fc.integer({ min: 2, max: 5 }) }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('underlay' as const), to: fc.nat(2) }) },
  { weight: plainEvents.length, arbitrary: fc.record({ kind: fc.constantFrom(...plainEvents) }) },
);
type Event = typeof event extends fc.Arbitrary<infer E> ? E : never;

/** A host, its registry and its daemon. */
class Life {
  readonly clock = new FakeClock();
  readonly store = new MemoryStore(this.clock);
  readonly stop = new AbortController();
  underlay = 0;
  /** What the inputs call for is to leave. */
  lost = false;
  end: { readonly error: unknown } | null = null;

  private constructor(readonly world: World) {}

  static async begin(): Promise<Life> {
    const life = new Life(await World.create());
    const { world, clock, store } = life;
    store.setConfig(CONFIG);
    world.clock = clock;
    world.registry = {
      createLeases: (host, previous) =>
        new LeaseManager({
          registry: new MemoryRegistry(store),
          log: silentLogger(),
          host,
          previous,
          clock,
          random: () => 0,
        }),
      close: async () => {},
    };
    world
      .daemon()
      .run(life.stop.signal)
      .then(
        () => ({ error: null }),
        (error: unknown) => ({ error }),
      )
      .then((end) => {
        life.end = end;
      });
    await vi.waitFor(() => expect(world.host.file).not.toBe(''), { timeout: 10_000, interval: 1 });
    return life;
  }

  async happens(event: Event): Promise<void> {
    const { store, world, clock } = this;
    const own = () => encodeLeaseValue(host(ownAddresses[this.underlay] as string));
    switch (event.kind) {
      case 'peer comes':
        store.put(`10.5.${event.subnet}.0-24`, encodeLeaseValue(host(`192.0.2.${event.owner}`)), DAY_S * 365);
        break;
      case 'peer goes':
        store.delete(`10.5.${event.subnet}.0-24`);
        break;
      case 'underlay': {
        this.underlay = event.to;
        const underlay = underlays[event.to] as (typeof underlays)[number];
        world.moved = { underlay, publicIp: underlay.address, publicIpv6: null, reason: 'the test says so' };
        break;
      }
      case 'registry goes':
        store.goDown('connection refused');
        break;
      case 'registry returns':
        store.comeBack();
        break;
      case 'registry forgets everything':
        store.wipe();
        break;
      case 'another network is stored': // takes effect at the next start, whatever happens until then
        store.setConfig('{"Network":"10.9.0.0/16"}');
        break;
      case 'a wrong config is stored':
        store.setConfig('{"Network":"[[[["}');
        break;
      case 'history is compacted':
        store.compact();
        break;
      case 'own key is deleted':
        store.delete(OWN_KEY);
        break;
      case 'own key is damaged':
        store.put(OWN_KEY, own().replace('null', '[[[['), DAY_S);
        break;
      case 'own key is taken':
        store.put(OWN_KEY, encodeLeaseValue(host('192.0.2.66')), DAY_S * 365);
        break;
      case 'rules are removed':
        world.host.rules = false;
        break;
      case 'peers cannot be set':
        world.backendFailsNow = 'no buffer space';
        break;
      case 'peers can be set':
        world.backendFailsNow = '';
        break;
      case 'a peer leads through the overlay':
        store.put('10.5.9.0-24', encodeLeaseValue(host('10.5.9.1')), DAY_S * 365);
        break;
      case 'a key is garbage':
        store.put('10.5.10.0-24', '{"PublicIP":[[[', DAY_S * 365);
        break;
      case 'a day passes':
        await clock.advance(DAY_S * 1000);
        break;
    }
    await clock.advance(LONG_MS);
    const holder = store.entries.get(OWN_KEY)?.value ?? '';
    this.lost ||= store.downBecause === '' && holder.includes('192.0.2.66');
  }

  /** What the store says now, as the host should have it. */
  get wanted() {
    const underlay = underlays[this.underlay] as (typeof underlays)[number];
    const peers = [...this.store.entries.keys()].flatMap((key) => {
      const read = this.store.read(key);
      if (read?.kind !== 'put' || key === OWN_KEY || key === '10.5.9.0-24') return [];
      return [formatPrefix(read.lease.subnet as Prefix)];
    });
    const mtu = underlay.mtu - 28;
    return {
      device: { underlay: underlay.name, subnet: '10.5.1.0/24', mtu },
      peers: peers.sort(),
      rules: true,
      file: `10.5.1.0/24 ${mtu}`,
    };
  }

  get actual() {
    const { device, peers, rules, file } = this.world.host;
    return { device, peers: peers === 'none' ? [] : peers.split(' ').sort(), rules, file };
  }
}

it('whatever happens in whatever order, the host has what registry, underlay and options call for', {
  timeout: 120_000,
}, async () => {
  let losses = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(event, { minLength: 1, maxLength: 20 }), async (events) => {
      const life = await Life.begin();
      const { world, store, clock, stop } = life;
      try {
        for (const one of events) {
          await life.happens(one);
          if (life.end !== null) break;
        }
        if (life.end === null) {
          await life.happens({ kind: 'peers can be set' });
          await life.happens({ kind: 'registry returns' });
          await clock.advance(LONG_MS);
        }
        if (life.lost) {
          losses++;
          await vi.waitFor(() => expect(life.end?.error).toMatchObject({ code: 'LEASE_LOST' }));
          expect(world.host.device).toBeNull();
          expect(store.entries.get(OWN_KEY)?.value ?? '192.0.2.66').toContain('192.0.2.66');
          return;
        }
        expect(life.end).toBeNull();
        expect(life.actual).toEqual(life.wanted);
        expect(store.entries.get(OWN_KEY)?.value).toBe(encodeLeaseValue(host(ownAddresses[life.underlay] as string)));
        // at rest nothing is done any more
        const before = world.events.length;
        await clock.advance(LONG_MS);
        expect(world.events.slice(before)).toEqual([]);
        stop.abort();
        await vi.waitFor(() => expect(life.end).toEqual({ error: null }));
        expect(world.host.device).toBeNull();
      } finally {
        stop.abort();
        await vi.waitFor(() => expect(life.end).not.toBeNull(), { timeout: 10_000 });
        await world.remove();
      }
    }),
    { numRuns: 25 },
  );
  expect(losses).toBeGreaterThan(0); // the events are such that this is met too
});
