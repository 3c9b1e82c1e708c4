/** Sessions that one process leaves to the next: nothing is lost, and nothing is used twice. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BequestError, decodeBequest } from '../../../src/wireguard/bequest.js';
import { REJECT_AFTER_TIME, REKEY_AFTER_TIME } from '../../../src/wireguard/constants.js';
import type { PeerOptions } from '../../../src/wireguard/device.js';
import { ADOPTED_GAP } from '../../../src/wireguard/key-slots.js';
import { TRANSPORT, TRANSPORT_COUNTER, TRANSPORT_RECEIVER } from '../../../src/wireguard/messages.js';
import { type Host, innerPacket, numberOf } from '../../support/wireguard/host.js';
import { Network, pair, v4 } from '../../support/wireguard/network.js';

const wordAt = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);

/** Two hosts, of which the first is replaced by another process. */
class Stage {
  readonly network: Network;
  readonly b: Host;
  a: Host;
  ab: number;
  readonly ba: number;
  #processes = 0;
  /** Everything that came out, at all processes of the first host and at the second. */
  readonly received = { a: [] as number[], b: [] as number[] };
  readonly transport: Uint8Array[] = [];

  constructor(seed = 1) {
    this.network = new Network(seed);
    const { a, b, ab, ba } = pair(this.network);
    [this.a, this.b, this.ab, this.ba] = [a, b, ab, ba];
    this.network.filter = (datagram, from) => {
      if (datagram[0] === TRANSPORT && from.address[3] === 1) this.transport.push(datagram);
      return true;
    };
  }

  #collect(): void {
    this.received.a.push(...this.a.received.splice(0).map(({ packet }) => numberOf(packet)));
    this.received.b.push(...this.b.received.splice(0).map(({ packet }) => numberOf(packet)));
  }

  /** @returns how many peers it has a session with */
  replace(settings: Partial<PeerOptions> = {}): number {
    this.#collect();
    let adopted = 0;
    this.a = this.network.replace(this.a, `a ${++this.#processes}`, v4(1), (next, left) => {
      this.ab = next.setPeer({ publicKey: this.b.device.publicKey, endpoint: v4(2), ...settings });
      adopted = next.device.adopt(decodeBequest(left), this.network.now).length;
    });
    return adopted;
  }

  end(): void {
    this.network.run(2_000);
    this.#collect();
  }
}

describe('a process that leaves its sessions to the next', () => {
  it('loses no packet and uses no counter twice, whenever it is replaced', { timeout: 120_000 }, () => {
    const course = fc.record({
      seed: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
      delay: fc.integer({ min: 1, max: 60 }),
      jitter: fc.integer({ min: 0, max: 50 }),
      replaced: fc.array(fc.integer({ min: 0, max: 2 * REKEY_AFTER_TIME }), { minLength: 1, maxLength: 8 }),
      first: fc.boolean(),
    });
    fc.assert(
      fc.property(course, ({ seed, delay, jitter, replaced, first }) => {
        const stage = new Stage(seed);
        const { network } = stage;
        network.link = { delay, jitter, loss: 0, repeat: 0 };
        const moments = replaced.sort((x, y) => x - y).map((moment) => moment + 1_000);
        let busyUntil = 500;
        const sent = { a: 0, b: 0 };
        let staged = 0;
        while (network.time < 2.2 * REKEY_AFTER_TIME) {
          if (moments[0] !== undefined && network.time >= moments[0]) {
            moments.shift();
            staged += stage.a.staged.dropped;
            stage.replace();
            busyUntil = network.time + 500;
          }
          if (first || network.time > 300) stage.a.transmit(stage.ab, innerPacket(sent.a++));
          if (!first || network.time > 300) stage.b.transmit(stage.ba, innerPacket(sent.b++));
          network.run(network.time < busyUntil ? 4 : 997);
        }
        stage.end();
        staged += stage.a.staged.dropped;
        for (const host of [stage.a, stage.b]) {
          const { unknown_session, not_authentic, replayed } = host.drops();
          expect({ unknown_session, not_authentic, replayed }).toEqual({});
        }
        expect(new Set(stage.received.b).size).toBe(sent.a - staged);
        expect(new Set(stage.received.a).size).toBe(sent.b - stage.b.staged.dropped);
        const used = stage.transport.map((message) =>
          [TRANSPORT_RECEIVER, TRANSPORT_COUNTER].map((at) => wordAt(message, at)),
        );
        expect(new Set(used.map(String)).size).toBe(used.length);
      }),
      { numRuns: 40 },
    );
  });

  it('goes on above the last counter, and lets nothing in that was let in before', () => {
    const stage = new Stage();
    const { network } = stage;
    const heard: Uint8Array[] = [];
    const { filter } = network;
    network.filter = (datagram, from, to) => {
      if (datagram[0] === TRANSPORT && from.address[3] === 2) heard.push(datagram);
      return filter(datagram, from, to);
    };
    for (let i = 0; i < 10; i++) {
      stage.a.transmit(stage.ab, innerPacket(i));
      stage.b.transmit(stage.ba, innerPacket(i));
      network.run(100);
    }
    const before = wordAt(stage.transport.at(-1)!, TRANSPORT_COUNTER);
    expect(stage.replace()).toBe(1);
    stage.a.transmit(stage.ab, innerPacket(10));
    expect(wordAt(stage.transport.at(-1)!, TRANSPORT_COUNTER)).toBe(before + 1 + ADOPTED_GAP);
    for (const datagram of heard) stage.a.open(datagram, v4(2));
    expect(stage.a.received).toEqual([]);
    expect(stage.a.drops().replayed).toBe(heard.length);
    stage.b.transmit(stage.ba, innerPacket(11));
    stage.end();
    expect(stage.received.a.at(-1)).toBe(11);
    expect(stage.received.b.at(-1)).toBe(10);
  });

  it('asks a peer again whose answer it was waiting for', () => {
    const stage = new Stage();
    stage.network.filter = () => false;
    stage.a.transmit(stage.ab, innerPacket(1));
    stage.network.run(1_000);
    stage.network.filter = () => true;
    expect(stage.replace()).toBe(0);
    stage.network.run(500);
    expect(stage.a.news).toEqual([`ready ${stage.ab}`]);
  });

  it('keeps sessions no longer than they may live, and follows where the peer had gone', () => {
    const stage = new Stage();
    const { network } = stage;
    stage.a.transmit(stage.ab, innerPacket(1));
    network.run(1_000);
    network.roam(stage.b, v4(9));
    stage.b.transmit(stage.ba, innerPacket(2));
    network.run(1_000);
    expect(stage.replace()).toBe(1);
    expect(stage.a.endpoints.get(stage.ab)).toEqual(v4(9));
    stage.network.filter = () => false;
    network.run(REJECT_AFTER_TIME - 10_000);
    expect(stage.replace()).toBe(1);
    network.run(10_000);
    expect(stage.a.transmit(stage.ab, innerPacket(3))).toBe(0);
    expect(stage.replace()).toBe(0);
  });

  it('leaves a peer alone whose settings have changed meanwhile', () => {
    const stage = new Stage();
    stage.a.transmit(stage.ab, innerPacket(1));
    stage.network.run(1_000);
    expect(stage.replace({ endpoint: v4(7) })).toBe(1);
    expect(stage.a.endpoints.get(stage.ab)).toEqual(v4(7));
    expect(stage.replace({ presharedKey: new Uint8Array(32).fill(3) })).toBe(0);
    expect(stage.a.transmit(stage.ab, innerPacket(2))).toBe(0);
  });

  it('gives new sessions slots of their own', () => {
    const stage = new Stage();
    stage.a.transmit(stage.ab, innerPacket(1));
    stage.network.run(1_000);
    stage.replace();
    const c = stage.network.host('c', v4(3));
    const ca = c.setPeer({ publicKey: stage.a.device.publicKey, endpoint: v4(1) });
    stage.a.setPeer({ publicKey: c.device.publicKey, endpoint: v4(3) });
    for (let i = 0; i < 5; i++) {
      c.device.connect(ca, stage.network.now);
      stage.network.run(REJECT_AFTER_TIME / 20);
    }
    stage.b.transmit(stage.ba, innerPacket(2));
    c.transmit(ca, innerPacket(3));
    stage.end();
    expect(stage.received.a.sort()).toEqual([2, 3]);
  });

  it('leaves no key behind', () => {
    const stage = new Stage();
    stage.a.transmit(stage.ab, innerPacket(1));
    stage.network.run(1_000);
    const former = stage.a;
    stage.replace();
    expect(former.seal(0, 64, 20)).toBe(0);
  });
});

describe('what another process left', () => {
  const left = () => {
    const stage = new Stage();
    stage.a.transmit(stage.ab, innerPacket(1));
    stage.network.run(1_000);
    let bytes = new Uint8Array();
    stage.a = stage.network.replace(stage.a, 'another', v4(1), (_, given) => {
      bytes = given.slice();
    });
    return { ...stage, bytes, host: stage.a, now: stage.network.now };
  };

  it('is refused where it is cut off anywhere, or of another form', () => {
    const { bytes } = left();
    for (const length of [0, 3, 40, 60, 200, bytes.length - 1]) {
      expect(() => decodeBequest(bytes.subarray(0, length))).toThrow(BequestError);
    }
    expect(() => decodeBequest(Buffer.concat([bytes, bytes]))).toThrow(BequestError);
    for (const word of [0, 4]) {
      const changed = bytes.slice();
      changed[word]! ^= 1;
      expect(() => decodeBequest(changed)).toThrow('another version');
    }
    fc.assert(
      fc.property(fc.integer({ min: 0, max: bytes.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const changed = bytes.slice();
        changed[at]! ^= change;
        try {
          decodeBequest(changed);
        } catch (error) {
          expect(error).toBeInstanceOf(BequestError);
        }
      }),
    );
  });

  it('is refused by a host of another key, or with room for another number', () => {
    const { bytes, host, now, network } = left();
    const bequest = decodeBequest(bytes);
    expect(() => network.host('other', v4(5)).device.adopt(bequest, now)).toThrow('another key');
    expect(() => host.device.adopt({ ...bequest, slots: 2 * bequest.slots }, now)).toThrow('another number');
  });

  it('is of no use for a peer that is not one any more', () => {
    const { bytes, host, now } = left();
    expect(host.device.adopt(decodeBequest(bytes), now)).toEqual([]);
  });

  it('does not take what somebody has already', () => {
    const { bytes, host, b, now } = left();
    const bequest = decodeBequest(bytes);
    host.setPeer({ publicKey: b.device.publicKey, endpoint: v4(2) });
    expect(host.device.adopt(bequest, now)).toHaveLength(1);
    const twice = { ...bequest, peers: [...bequest.peers, ...bequest.peers] };
    expect(() => host.device.adopt(twice, now)).not.toThrow();
  });
});
