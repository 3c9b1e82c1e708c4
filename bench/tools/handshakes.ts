/**
 * Many WireGuard peers at once, which make handshakes with one host.
 *
 * Usage: handshakes COUNT ADDRESS PORT PUBLIC_KEY CONTAINER, the last an address behind the host that answers pings. Prints the
 * public keys of COUNT peers as JSON, and then answers each line on its standard input, once it is prepared with `ready`:
 *
 * - `flood RATE SECONDS` begins so many handshakes a second, and finishes none: a `FloodResult`. It runs on the machine whose
 *   stream is watched, where peers would be others: so all messages are made before, nothing is done with the answers but
 *   counting them, and it comes every few milliseconds instead of at every answer;
 * - `first COUNT` makes handshakes one after the other, each with a ping behind it: a `FirstResult`.
 */

import { randomBytes } from 'node:crypto';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { parseIpv4 } from '../../src/base/ipv4.js';
import { headerSum } from '../../src/encap/wire/checksum.js';
import { MSG_DONTWAIT, SOCK_DGRAM } from '../../src/linux/constants.js';
import { control } from '../../src/linux/libc.js';
import { CookieKeeper } from '../../src/wireguard/cookies.js';
import { consumeResponse, createInitiation, type PendingInitiation } from '../../src/wireguard/handshake.js';
import { formatKey, KEY_BYTES, PrivateKey, parseKey, Secret } from '../../src/wireguard/keys.js';
import {
  COOKIE_REPLY,
  messageType,
  putWord,
  RESPONSE,
  TRANSPORT,
  TRANSPORT_COUNTER,
  TRANSPORT_HEADER,
  TRANSPORT_RECEIVER,
} from '../../src/wireguard/messages.js';
import { aead } from '../../src/wireguard/primitives.js';
import { Timestamps } from '../../src/wireguard/tai64n.js';
import { peerContainer } from '../handshakes/peers.js';
import { median } from '../stats/summary.js';
import { connect as connectSocket, recv, send, sockaddr } from './sockets.js';

/** What came back in the middle of the flood. */
export interface FloodResult {
  readonly offered: number;
  readonly answered: number;
  readonly cookies: number;
  readonly seconds: number;
}

/** From the initiation to the answer to the first packet, milliseconds. */
export interface FirstResult {
  readonly median: number;
  readonly worst: number;
}

/** At the start of a flood other things begin as well. */
const SETTLE_SECONDS = 0.5;
const TICK_MS = 5;
const PATIENCE_MS = 2_000;
/** Longer than any message of a handshake. */
const ANSWER_BYTES = 256;
/** Between two handshakes of a `first`, so that each finds the host idle. */
const PAUSE_MS = 50;
const NOTHING = new Uint8Array();

const [count, address, port, key, container] = process.argv.slice(2) as [string, string, string, string, string];
const publicKey = parseKey(key, 'public key');

class SimulatedPeer {
  readonly own = new PrivateKey(new Uint8Array(randomBytes(KEY_BYTES)));
  readonly cookies = new CookieKeeper(publicKey);
  readonly #timestamps = new Timestamps();
  readonly #host;

  constructor() {
    const staticSecret = this.own.agree(publicKey);
    if (staticSecret === undefined) throw new Error('nobody can have that public key');
    this.#host = { publicKey, staticSecret, presharedKey: Secret.none() };
  }

  initiation(index: number): { readonly message: Uint8Array; readonly pending: PendingInitiation } {
    const ephemeral = new PrivateKey(new Uint8Array(randomBytes(KEY_BYTES)));
    const made = createInitiation(this.own, this.#host, ephemeral, index, this.#timestamps.next(Date.now()));
    if (made === undefined) throw new Error('nobody can have that public key');
    this.cookies.addMacs(made.message, performance.now());
    return made;
  }

  complete(pending: PendingInitiation, response: Uint8Array) {
    return consumeResponse(this.own, this.#host, pending, response);
  }
}

const peers = Array.from({ length: Number(count) }, () => new SimulatedPeer());
const socket = dgram.createSocket('udp4');
socket.connect(Number(port), address);
await once(socket, 'connect');
const say = (what: unknown): void => void process.stdout.write(`${JSON.stringify(what)}\n`);
say(peers.map(({ own }) => formatKey(own.publicKey)));

for await (const line of createInterface({ input: process.stdin })) {
  const [what, ...numbers] = line.split(' ');
  const [first = 0, second = 0] = numbers.map(Number);
  say(what === 'flood' ? await flood(first, second) : await firstPackets(first));
}

async function flood(rate: number, seconds: number): Promise<FloodResult> {
  const messages = Array.from({ length: Math.round(rate * seconds) }, (_, i) => {
    const peer = peers[i % peers.length] as SimulatedPeer;
    return peer.initiation(i + 1).message;
  });
  say('ready');
  const began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  let [offered, answered, cookies] = [0, 0, 0];
  const fd = connectSocket(SOCK_DGRAM, sockaddr(parseIpv4(address) ?? 0, Number(port)));
  if (fd < 0) throw new Error(`no way to ${address}`);
  const answer = new Uint8Array(ANSWER_BYTES);
  for (let sent = 0; sent < messages.length; ) {
    const counts = elapsed() >= SETTLE_SECONDS && elapsed() < seconds;
    for (let length = recv(fd, answer, ANSWER_BYTES, MSG_DONTWAIT); length > 0; ) {
      const type = messageType(answer.subarray(0, length));
      if (counts && type === RESPONSE) answered++;
      else if (counts && type === COOKIE_REPLY) cookies++;
      length = recv(fd, answer, ANSWER_BYTES, MSG_DONTWAIT);
    }
    for (; sent < Math.min(messages.length, elapsed() * rate); sent++) {
      const message = messages[sent] as Uint8Array;
      send(fd, message, message.length, MSG_DONTWAIT);
      if (counts) offered++;
    }
    await delay(TICK_MS);
  }
  control.close(fd);
  return { offered, answered, cookies, seconds: seconds - SETTLE_SECONDS };
}

/** The next datagram of that type. */
async function next(type: number): Promise<Uint8Array> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  for (;;) {
    const [message] = (await once(socket, 'message', { signal })) as [Buffer];
    if (messageType(message) === type) return new Uint8Array(message);
  }
}

async function firstPackets(rounds: number): Promise<FirstResult> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const number = round % peers.length;
    const peer = peers[number] as SimulatedPeer;
    const began = performance.now();
    const { message, pending } = peer.initiation(round + 1);
    const response = next(RESPONSE);
    socket.send(message);
    const session = peer.complete(pending, await response);
    if (session === undefined) throw new Error('the response is not for us');
    const echo = new Uint8Array(TRANSPORT_HEADER);
    echo[0] = TRANSPORT;
    putWord(echo, TRANSPORT_RECEIVER, session.remoteIndex);
    echo.fill(0, TRANSPORT_COUNTER);
    const sealed = aead(session.keys.send.bytes, 0, ping(peerContainer(number)), NOTHING);
    const answer = next(TRANSPORT);
    socket.send(Buffer.concat([echo, sealed]));
    await answer;
    times.push(performance.now() - began);
    await delay(PAUSE_MS);
  }
  return { median: median(times), worst: Math.max(...times) };
}

/** An echo request of 64 bytes, a multiple of 16. @param from an address in host order */
function ping(from: number): Uint8Array {
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  bytes.set([0x45, 0, 0, bytes.length, 0, 0, 0x40, 0, 64, 1]);
  view.setUint32(12, from);
  view.setUint32(16, parseIpv4(container) ?? 0);
  bytes[20] = 8;
  view.setUint16(10, 0xffff ^ headerSum(view, 0, 20, 0), true);
  view.setUint16(22, 0xffff ^ headerSum(view, 20, bytes.length - 20, 0), true);
  return bytes;
}
