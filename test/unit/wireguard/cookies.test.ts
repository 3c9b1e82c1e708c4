import { describe, expect, it } from 'vitest';
import { COOKIE_SECRET_LATENCY, COOKIE_SECRET_MAX_AGE } from '../../../src/wireguard/constants.js';
import { CookieChecker, CookieKeeper } from '../../../src/wireguard/cookies.js';
import { endpointBytes } from '../../../src/wireguard/endpoint.js';
import { INITIATION, INITIATION_BYTES, RESPONSE, RESPONSE_BYTES } from '../../../src/wireguard/messages.js';
import { hash, mac, openXaead } from '../../../src/wireguard/primitives.js';
import { AddressLimit } from '../../../src/wireguard/rate-limit.js';
import { seeded } from '../../support/wireguard/host.js';
import { v4, v6 } from '../../support/wireguard/network.js';

const publicKey = seeded('key')(32);

function message(type = INITIATION): Uint8Array {
  const bytes = seeded('message')(type === INITIATION ? INITIATION_BYTES : RESPONSE_BYTES);
  bytes.set([type, 0, 0, 0]);
  bytes.fill(0, bytes.length - 32);
  return bytes;
}

const setUp = () => ({ checker: new CookieChecker(publicKey, seeded('checker')), keeper: new CookieKeeper(publicKey) });

describe('mac1', () => {
  it('is the keyed hash of all before it, under the hash of its label and the receiver’s key', () => {
    const { keeper } = setUp();
    const bytes = message();
    keeper.addMacs(bytes, 0);
    const key = hash(Buffer.from('mac1----'), publicKey);
    expect(Buffer.from(bytes.subarray(116, 132))).toEqual(Buffer.from(mac(key, bytes.subarray(0, 116))));
    expect(bytes.subarray(132).every((byte) => byte === 0)).toBe(true);
  });

  it.each([INITIATION, RESPONSE])('is found right, and wrong after any change before it; message type %i', (type) => {
    const { checker, keeper } = setUp();
    const bytes = message(type);
    keeper.addMacs(bytes, 0);
    expect(checker.hasMac1(bytes)).toBe(true);
    for (let at = 4; at < bytes.length - 16; at++) {
      bytes[at] ^= 1;
      expect(checker.hasMac1(bytes)).toBe(false);
      bytes[at] ^= 1;
    }
    expect(new CookieChecker(seeded('other')(32), seeded('x')).hasMac1(bytes)).toBe(false);
  });
});

describe('cookies', () => {
  it.each([
    ['IPv4', v4],
    ['IPv6', v6],
  ] as const)(
    'make a mac2 that is right for the %s address they were sent to alone, and for two minutes',
    (_name, at) => {
      const { checker, keeper } = setUp();
      const bytes = message();
      keeper.addMacs(bytes, 0);
      expect(checker.hasMac2(bytes, at(1), 0)).toBe(false);
      expect(keeper.consumeReply(checker.reply(bytes, at(1), 0), 10)).toBe(true);
      keeper.addMacs(bytes, 20);
      expect(checker.hasMac2(bytes, at(1), 30)).toBe(true);
      expect(checker.hasMac2(bytes, at(2), 30)).toBe(false);
      expect(checker.hasMac2(bytes, at(1, 51821), 30)).toBe(false);
      expect(checker.hasMac2(bytes, at(1), COOKIE_SECRET_MAX_AGE - 1)).toBe(true);
      expect(checker.hasMac2(bytes, at(1), COOKIE_SECRET_MAX_AGE)).toBe(false);
      keeper.addMacs(bytes, 10 + COOKIE_SECRET_MAX_AGE - COOKIE_SECRET_LATENCY);
      expect(bytes.subarray(-16).every((byte) => byte === 0)).toBe(true);
    },
  );

  it.each([
    ['IPv4', v4, 6],
    ['IPv6', v6, 18],
  ] as const)(
    'are of the %s address and port, encrypted under the hash of their label, with mac1 as additional data',
    (...args) => {
      const [, at, length] = args;
      expect(endpointBytes(at(1))).toHaveLength(length);
      const { checker, keeper } = setUp();
      const bytes = message();
      keeper.addMacs(bytes, 0);
      const reply = checker.reply(bytes, at(1), 0);
      expect([...reply.subarray(0, 8)]).toEqual([3, 0, 0, 0, ...bytes.subarray(4, 8)]);
      const key = hash(Buffer.from('cookie--'), publicKey);
      const cookie = openXaead(key, reply.subarray(8, 32), reply.subarray(32), bytes.subarray(116, 132));
      // the first 32 bytes drawn are the secret
      expect(Buffer.from(cookie!)).toEqual(Buffer.from(mac(seeded('checker')(32), endpointBytes(at(1)))));
    },
  );

  it('are taken once, and only as the answer to the last message', () => {
    const { checker, keeper } = setUp();
    const first = message();
    keeper.addMacs(first, 0);
    const reply = checker.reply(first, v4(1), 0);
    const changed = reply.slice();
    changed[40] ^= 1;
    expect(keeper.consumeReply(changed, 0)).toBe(false);
    const second = message();
    second[50] ^= 1;
    keeper.addMacs(second, 0);
    expect(keeper.consumeReply(reply, 0)).toBe(false);
    const right = checker.reply(second, v4(1), 0);
    expect(keeper.consumeReply(right, 0)).toBe(true);
    expect(keeper.consumeReply(right, 0)).toBe(false);
  });
});

describe('AddressLimit', () => {
  it('lets five through at once and twenty a second', () => {
    const limit = new AddressLimit();
    const take = (now: number) => limit.take('192.0.2.1', now);
    expect(Array.from({ length: 8 }, () => take(0)).filter(Boolean)).toHaveLength(5);
    let taken = 0;
    for (let now = 1; now <= 10_000; now++) if (take(now)) taken++;
    expect(taken).toBe(200);
    expect(limit.take('192.0.2.2', 10_000)).toBe(true);
  });

  it('remembers no more than it has room for, and makes room again with time', () => {
    const limit = new AddressLimit();
    for (let i = 0; i < 100_000; i++) limit.take(`${i}`, i / 1000);
    expect(limit.size).toBeLessThanOrEqual(4096);
    expect(limit.take('another', 10_000)).toBe(true);
    expect(limit.size).toBeLessThanOrEqual(4096);
  });
});
