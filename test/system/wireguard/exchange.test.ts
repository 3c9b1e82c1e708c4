/**
 * One exchange with wireguard-go in each role, by the functions of the handshake alone. All that we bring is fixed, so what
 * is said can be kept: with RECORD=1 the exchange is written to the fixture that test/unit/wireguard/handshake.test.ts
 * plays again.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { CookieChecker, CookieKeeper } from '../../../src/wireguard/cookies.js';
import {
  consumeInitiation,
  consumeResponse,
  createInitiation,
  createResponse,
  type RemoteIdentity,
} from '../../../src/wireguard/handshake.js';
import { PrivateKey, Secret } from '../../../src/wireguard/keys.js';
import { INITIATION, RESPONSE, TRANSPORT } from '../../../src/wireguard/messages.js';
import { aead, openAead } from '../../../src/wireguard/primitives.js';
import { Timestamps } from '../../../src/wireguard/tai64n.js';
import { seeded } from '../../support/wireguard/host.js';
import { Namespace } from '../datapath/support/namespace.js';
import { Udp } from '../datapath/support/sockets.js';
import { until } from '../datapath/support/until.js';
import { echo, LOOPBACK } from './support/peer.js';
import { THEIR_PORT, WireguardGo } from './support/wireguard-go.js';

const FIXTURE = fileURLToPath(new URL('../../unit/wireguard/fixtures/wireguard-go.json', import.meta.url));
const INDEX = 0x1234_5678;
const NOTHING = new Uint8Array();
const key = (what: string) => seeded(what)(32);
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

let namespace: Namespace;
let theirs: WireguardGo;
let socket: Udp;

beforeEach(async () => {
  namespace = new Namespace();
  await namespace.ip('link set lo up');
  theirs = new WireguardGo(namespace);
  socket = new Udp(namespace, { address: LOOPBACK });
});

afterEach(async () => {
  socket.close();
  await theirs.stop();
  namespace.close();
});

/** The next datagram of a type. */
async function next(type: number): Promise<Buffer> {
  return until(`a message of type ${type}`, () => socket.receive().find(({ data }) => data[0] === type)?.data);
}

function transport(remoteIndex: number, keyBytes: Uint8Array, plain: Uint8Array): Buffer {
  const header = Buffer.alloc(16);
  header[0] = TRANSPORT;
  header.writeUInt32LE(remoteIndex, 4);
  return Buffer.concat([header, aead(keyBytes, 0, plain, NOTHING)]);
}

const fixture: Record<string, Record<string, string>> = {};

it('in both roles, each side opens what the other says', async () => {
  const own = new PrivateKey(key('our key'));
  const publicKey = new PrivateKey(key('their key')).publicKey;
  const presharedKey = key('preshared');
  const peer: RemoteIdentity = {
    publicKey,
    staticSecret: own.agree(publicKey)!,
    presharedKey: new Secret(presharedKey.slice()),
  };
  const checker = new CookieChecker(own.publicKey, seeded('checker'));
  const keeper = new CookieKeeper(publicKey);
  await theirs.start(key('their key'), { publicKey: own.publicKey, presharedKey });

  const timestamp = new Timestamps().next(Date.now());
  const { message, pending } = createInitiation(own, peer, new PrivateKey(key('ephemeral')), INDEX, timestamp)!;
  keeper.addMacs(message, 0);
  socket.send(message, LOOPBACK, THEIR_PORT);
  const response = await next(RESPONSE);
  expect(checker.hasMac1(response)).toBe(true);
  const session = consumeResponse(own, peer, pending, response)!;
  const request = transport(session.remoteIndex, session.keys.send.bytes, echo(8, 1, 36));
  socket.send(request, LOOPBACK, THEIR_PORT);
  const reply = await next(TRANSPORT);
  const plain = openAead(session.keys.receive.bytes, 0, reply.subarray(16), NOTHING)!;
  expect(plain[20]).toBe(0);
  fixture.initiator = {
    timestamp: hex(timestamp),
    initiation: hex(message),
    response: hex(response),
    request: hex(request),
    reply: hex(reply),
    plain: hex(plain),
  };

  await theirs.stop();
  theirs = new WireguardGo(namespace);
  await theirs.start(key('their key'), {
    publicKey: own.publicKey,
    presharedKey,
    endpoint: `127.0.0.1:${socket.port}`,
    persistentKeepalive: 1,
  });
  const initiation = await next(INITIATION);
  expect(checker.hasMac1(initiation)).toBe(true);
  const received = consumeInitiation(own, initiation, (name) => (hex(name) === hex(publicKey) ? peer : undefined));
  if (typeof received === 'string') throw new Error(received);
  const answer = createResponse(received, new PrivateKey(key('ephemeral')), INDEX)!;
  keeper.addMacs(answer.message, 0);
  socket.send(answer.message, LOOPBACK, THEIR_PORT);
  const keepalive = await next(TRANSPORT);
  expect(openAead(answer.keys.receive.bytes, 0, keepalive.subarray(16), NOTHING)).toHaveLength(0);
  fixture.responder = {
    timestamp: hex(received.timestamp),
    initiation: hex(initiation),
    response: hex(answer.message),
    keepalive: hex(keepalive),
  };
  if (process.env.RECORD === '1') writeFileSync(FIXTURE, `${JSON.stringify(fixture, null, 2)}\n`);
});
