import { describe, expect, it } from 'vitest';
import { hash, mac } from '../../../src/wireguard/primitives.js';
import { type Host, innerPacket, numberOf, seeded } from '../../support/wireguard/host.js';
import { Network, pair, v4 } from '../../support/wireguard/network.js';

/** A conversation, with every datagram to the second host kept. */
function talk() {
  const network = new Network();
  const { a, b, ab, ba } = pair(network);
  const toB: Uint8Array[] = [];
  network.filter = (datagram, from) => {
    if (from.address[3] === 1) toB.push(datagram);
    return true;
  };
  for (let i = 0; i < 300; i++) {
    a.transmit(ab, innerPacket(i, 28 + i));
    network.run(1_000);
  }
  network.filter = () => false;
  return { network, a, b, ab, ba, toB };
}

const total = (host: Host) => Object.values(host.drops()).reduce((sum, count) => sum + count, 0);

/** xorshift32 */
function dice(seed: number) {
  let x = seed;
  return (below: number) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

describe('hostile datagrams', () => {
  it('of any bytes and lengths, mutated or cut, are not accepted, and each is counted', { timeout: 60_000 }, () => {
    const { network, b, ba, toB } = talk();
    const before = b.received.length;
    const random = dice(7);
    const noise = seeded('noise')(1 << 16);
    const transport = toB.filter((datagram) => datagram[0] === 4);
    const others = toB.filter((datagram) => datagram[0] !== 4);
    expect(others.length).toBeGreaterThan(2);
    let count = 0;
    const throwAt = (datagram: Uint8Array) => {
      b.deliver(datagram, v4(random(250)));
      count++;
      if (count % 1000 === 0) network.run(20);
    };
    for (let i = 0; i < 120_000; i++) {
      const original = i % 10 === 0 ? others[random(others.length)] : transport[random(transport.length)];
      const bytes = original.slice();
      switch (random(4)) {
        case 0:
          bytes[random(bytes.length)] ^= 1 << random(8);
          throwAt(bytes);
          break;
        case 1:
          throwAt(bytes.subarray(0, random(bytes.length)));
          break;
        case 2: {
          const at = random(bytes.length);
          bytes.set(noise.subarray(0, Math.min(16, bytes.length - at)), at);
          throwAt(bytes);
          break;
        }
        default: {
          const at = random(noise.length - 1600);
          const random1600 = noise.slice(at, at + random(1600));
          if (random1600.length > 3) random1600.set([1 + random(4), 0, 0, 0]);
          throwAt(random1600);
        }
      }
    }
    expect(b.received.length).toBe(before);
    expect(total(b)).toBe(count);
    const drops = b.drops();
    for (const reason of ['not_wireguard', 'unknown_session', 'not_authentic', 'bad_mac1']) {
      expect(drops[reason], reason).toBeGreaterThan(100);
    }
    // nobody was led astray
    expect([...b.device.peers()].find(({ number }) => number === ba)?.endpoint).toEqual(v4(1));
  });

  it('that repeat what came before are not accepted', () => {
    const { b, toB } = talk();
    const before = b.received.length;
    for (let round = 0; round < 5; round++) for (const datagram of toB) b.deliver(datagram, v4(1));
    expect(b.received.length).toBe(before);
    expect(total(b)).toBe(5 * toB.length);
    expect(b.drops().replayed).toBeGreaterThan(5 * 100);
    expect(b.device.drops.replayed_initiation).toBeGreaterThan(0);
  });

  it('with a right mac1 that anybody can make, but nothing else right, change nothing', { timeout: 60_000 }, () => {
    const { network, a, b, ab, toB } = talk();
    const key = hash(Buffer.from('mac1----'), b.device.publicKey);
    const initiation = toB.filter((datagram) => datagram[0] === 1).at(-1)!;
    let count = 0;
    for (let at = 4; at < 116; at++) {
      for (const bit of [0, 5]) {
        const bytes = initiation.slice();
        bytes[at] ^= 1 << bit;
        bytes.set(mac(key, bytes.subarray(0, 116)), 116);
        b.deliver(bytes, v4(9));
        count++;
        network.run(15);
      }
    }
    const { bad_initiation, replayed_initiation } = b.device.drops;
    // what stands there is covered by mac1 alone: the sender's index
    const sendersIndex = 4 * 2;
    expect([bad_initiation, replayed_initiation]).toEqual([count - sendersIndex, sendersIndex]);
    network.filter = () => true;
    a.transmit(ab, innerPacket(1_000));
    network.run(1_000);
    expect(numberOf(b.received.at(-1)!.packet)).toBe(1_000);
  });

  it('of one peer do not count as another’s', () => {
    const network = new Network();
    const hub = network.host('hub', v4(1));
    const hosts = [2, 3].map((n) => network.host(`host ${n}`, v4(n)));
    const numbers = hosts.map((host, i) => hub.setPeer({ publicKey: host.device.publicKey, endpoint: v4(i + 2) }));
    const theirs = hosts.map((host) => host.setPeer({ publicKey: hub.device.publicKey, endpoint: v4(1) }));
    for (const [i, host] of hosts.entries()) host.transmit(theirs[i], innerPacket(i));
    network.run(1_000);
    // from each other's address: it is the key that counts
    network.roam(hosts[0], v4(50));
    network.roam(hosts[1], v4(2));
    for (const [i, host] of hosts.entries()) host.transmit(theirs[i], innerPacket(10 + i));
    network.run(1_000);
    const got = hub.received.map(({ peer, packet }) => [peer, numberOf(packet)]);
    expect(got).toEqual([
      [numbers[0], 0],
      [numbers[1], 1],
      [numbers[0], 10],
      [numbers[1], 11],
    ]);
  });

  it('that flood with handshakes cost no memory', { timeout: 60_000 }, () => {
    const { network, b, toB } = talk();
    const initiation = toB.find((datagram) => datagram[0] === 1)!;
    const flood = (count: number) => {
      for (let i = 0; i < count; i++) {
        b.deliver(initiation, { address: Uint8Array.of(10, i >>> 16, i >>> 8, i), port: i & 0xffff });
        if (i % 100 === 0) network.run(10);
      }
    };
    // until the conversation is forgotten
    network.run(1_200_000);
    const before = b.memory.u8.slice(b.layout.keys.slots, b.layout.keys.slots + 65_536);
    flood(20_000);
    expect(b.memory.u8.slice(b.layout.keys.slots, b.layout.keys.slots + 65_536)).toEqual(before);
    expect(b.device.drops.cookie_required).toBeGreaterThan(15_000);
    expect(b.mailbox.waiting).toBe(0);
  });
});
