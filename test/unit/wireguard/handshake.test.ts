/** The handshake against what wireguard-go said in a real exchange (test/system/wireguard/exchange.test.ts records it). */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { CookieChecker, CookieKeeper } from '../../../src/wireguard/cookies.js';
import {
  consumeInitiation,
  consumeResponse,
  createInitiation,
  createResponse,
  type RemoteIdentity,
} from '../../../src/wireguard/handshake.js';
import { PrivateKey, Secret } from '../../../src/wireguard/keys.js';
import { aead, openAead } from '../../../src/wireguard/primitives.js';
import { seeded } from '../../support/wireguard/host.js';

interface Exchange {
  readonly initiator: Readonly<Record<'timestamp' | 'initiation' | 'response' | 'request' | 'reply' | 'plain', string>>;
  readonly responder: Readonly<Record<'timestamp' | 'initiation' | 'response' | 'keepalive', string>>;
}

const recorded = JSON.parse(readFileSync(new URL('./fixtures/wireguard-go.json', import.meta.url), 'utf8')) as Exchange;

const INDEX = 0x1234_5678;
const NOTHING = new Uint8Array();
const key = (what: string) => seeded(what)(32);
const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const hex = (from: Uint8Array) => Buffer.from(from).toString('hex');

/** Everything that we brought to the exchange. */
function setUp(presharedKey = key('preshared')) {
  const own = new PrivateKey(key('our key'));
  const publicKey = new PrivateKey(key('their key')).publicKey;
  const peer: RemoteIdentity = {
    publicKey,
    staticSecret: own.agree(publicKey)!,
    presharedKey: new Secret(presharedKey),
  };
  return {
    own,
    peer,
    keeper: new CookieKeeper(publicKey),
    checker: new CookieChecker(own.publicKey, seeded('checker')),
    find: (name: Uint8Array) => (hex(name) === hex(publicKey) ? peer : undefined),
    initiate: () =>
      createInitiation(own, peer, new PrivateKey(key('ephemeral')), INDEX, bytes(recorded.initiator.timestamp))!,
  };
}

describe('as the initiator', () => {
  it('we say the same again, and open what was answered', () => {
    const { own, peer, keeper, checker, initiate } = setUp();
    const { message, pending } = initiate();
    keeper.addMacs(message, 0);
    expect(hex(message)).toBe(recorded.initiator.initiation);
    const response = bytes(recorded.initiator.response);
    expect(checker.hasMac1(response)).toBe(true);
    const session = consumeResponse(own, peer, pending, response)!;
    const request = bytes(recorded.initiator.request);
    expect(session.remoteIndex).toBe(new DataView(request.buffer).getUint32(4, true));
    const reply = bytes(recorded.initiator.reply);
    expect(new DataView(reply.buffer).getUint32(4, true)).toBe(INDEX);
    const plain = openAead(session.keys.receive.bytes, 0, reply.subarray(16), NOTHING)!;
    expect(hex(plain)).toBe(recorded.initiator.plain);
    const sent = openAead(session.keys.send.bytes, 0, request.subarray(16), NOTHING)!;
    expect(hex(aead(session.keys.send.bytes, 0, sent, NOTHING))).toBe(hex(request.subarray(16)));
  });

  it('a response with any byte changed is not accepted, and the right one still is', () => {
    const { own, peer, initiate } = setUp();
    const { pending } = initiate();
    // the type, the indices and the macs are not part of what the handshake itself covers
    for (let at = 12; at < 60; at++) {
      const response = bytes(recorded.initiator.response);
      response[at] ^= 4;
      expect(consumeResponse(own, peer, pending, response)).toBeUndefined();
    }
    expect(consumeResponse(own, peer, pending, bytes(recorded.initiator.response))).toBeDefined();
    // and only once: nothing is left of the handshake
    expect(consumeResponse(own, peer, pending, bytes(recorded.initiator.response))).toBeUndefined();
  });

  it('a response made with another preshared key is not accepted', () => {
    const { own, peer, initiate } = setUp(new Uint8Array(32));
    expect(consumeResponse(own, peer, initiate().pending, bytes(recorded.initiator.response))).toBeUndefined();
  });

  it('a peer whose public key leads to no secret gets no initiation', () => {
    const { own, peer } = setUp();
    const nobody = { ...peer, publicKey: new Uint8Array(32) };
    expect(createInitiation(own, nobody, new PrivateKey(key('ephemeral')), INDEX, new Uint8Array(12))).toBeUndefined();
  });
});

describe('as the responder', () => {
  it('we answer the same again, and open what was said then', () => {
    const { own, checker, keeper, find } = setUp();
    const initiation = bytes(recorded.responder.initiation);
    expect(checker.hasMac1(initiation)).toBe(true);
    const received = consumeInitiation(own, initiation, find);
    if (typeof received === 'string') throw new Error(received);
    expect(hex(received.timestamp)).toBe(recorded.responder.timestamp);
    const { message, keys } = createResponse(received, new PrivateKey(key('ephemeral')), INDEX)!;
    keeper.addMacs(message, 0);
    expect(hex(message)).toBe(recorded.responder.response);
    const keepalive = bytes(recorded.responder.keepalive);
    expect(openAead(keys.receive.bytes, 0, keepalive.subarray(16), NOTHING)).toHaveLength(0);
    expect(openAead(keys.send.bytes, 0, keepalive.subarray(16), NOTHING)).toBeUndefined();
  });

  it('an initiation with any byte changed is not accepted, nor one of a stranger', () => {
    const { own, find } = setUp();
    for (let at = 8; at < 116; at++) {
      const initiation = bytes(recorded.responder.initiation);
      initiation[at] ^= 2;
      expect(consumeInitiation(own, initiation, find)).toBe('bad_initiation');
    }
    expect(consumeInitiation(own, bytes(recorded.responder.initiation), () => undefined)).toBe('unknown_peer');
    const other = new PrivateKey(key('another'));
    expect(consumeInitiation(other, bytes(recorded.responder.initiation), find)).toBe('bad_initiation');
  });
});

it('a handshake of ours with ourselves agrees on two different keys', () => {
  const [a, b] = [new PrivateKey(key('a')), new PrivateKey(key('b'))];
  const identity = (own: PrivateKey, theirs: PrivateKey): RemoteIdentity => ({
    publicKey: theirs.publicKey,
    staticSecret: own.agree(theirs.publicKey)!,
    presharedKey: Secret.none(),
  });
  const [aOfB, bOfA] = [identity(a, b), identity(b, a)];
  const { message, pending } = createInitiation(a, aOfB, new PrivateKey(key('c')), 7, new Uint8Array(12))!;
  const received = consumeInitiation(b, message, () => bOfA);
  if (typeof received === 'string') throw new Error(received);
  expect(received.remoteIndex).toBe(7);
  const response = createResponse(received, new PrivateKey(key('d')), 9)!;
  const session = consumeResponse(a, aOfB, pending, response.message)!;
  expect(session.remoteIndex).toBe(9);
  expect(hex(session.keys.send.bytes)).toBe(hex(response.keys.receive.bytes));
  expect(hex(session.keys.receive.bytes)).toBe(hex(response.keys.send.bytes));
  expect(hex(session.keys.send.bytes)).not.toBe(hex(session.keys.receive.bytes));
});
