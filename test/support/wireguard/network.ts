/** Hosts on a network that loses, repeats and reorders what it carries, under a clock that a test moves. */
import fc from 'fast-check';
import { encodeBequest } from '../../../src/wireguard/bequest.js';
import type { Now } from '../../../src/wireguard/device-context.js';
import type { Endpoint } from '../../../src/wireguard/endpoint.js';
import { endpointOf, formatEndpoint } from '../../../src/wireguard/endpoint.js';
import { ATTENTION_MESSAGES } from '../../../src/wireguard/transport-layout.js';
import { Host } from './host.js';

export const START = 1_700_000_000_000;

/** What happens to datagrams. Chances from 0 to 1, times in milliseconds. */
export interface Link {
  readonly delay: number;
  readonly jitter: number;
  readonly loss: number;
  readonly repeat: number;
}

export const CLEAN: Link = { delay: 5, jitter: 0, loss: 0, repeat: 0 };

interface Flight {
  readonly at: number;
  readonly order: number;
  readonly datagram: Uint8Array;
  readonly from: Endpoint;
  readonly to: string;
}

export class Network {
  time = 0;
  /** Added to every host's wall clock. */
  wallStep = 0;
  link: Link = CLEAN;
  /** So long after it was called a host's control thread comes, in milliseconds, at most. */
  lag = 0;
  /** Looks at every datagram that is sent; false loses it. */
  filter: (datagram: Uint8Array, from: Endpoint, to: Endpoint) => boolean = () => true;
  readonly #hosts = new Map<string, Host>();
  readonly #polls = new Map<Host, number>();
  #flights: Flight[] = [];
  #order = 0;
  #state: number;

  constructor(seed = 1) {
    this.#state = seed | 1;
  }

  get now(): Now {
    return { monotonic: this.time, wall: START + this.time + this.wallStep };
  }

  host(seed: string, address: Endpoint, peers?: number, privateKey?: Uint8Array): Host {
    let at = address;
    const host: Host = new Host({
      seed,
      ...(privateKey === undefined ? {} : { privateKey }),
      clock: () => this.now,
      send: (datagram, to) => this.send(datagram, at, to),
      ...(peers === undefined ? {} : { peers }),
    });
    this.#hosts.set(formatEndpoint(address), host);
    this.#polls.set(host, 0);
    this.#move.set(host, (next) => {
      this.#hosts.delete(formatEndpoint(at));
      this.#hosts.set(formatEndpoint(next), host);
      at = next;
    });
    return host;
  }

  readonly #move = new Map<Host, (to: Endpoint) => void>();

  /**
   * Another process takes the host's place, at the same address and with the same key.
   *
   * @param go gives it its peers, and what the former one left
   */
  replace(former: Host, seed: string, address: Endpoint, go: (next: Host, left: Uint8Array) => void): Host {
    former.readMail();
    former.poll();
    const left = encodeBequest(former.device.bequeath(this.now));
    const privateKey = former.device.privateKey.bytes.slice();
    former.device.close(this.now);
    this.#polls.delete(former);
    const next = this.host(seed, address, undefined, privateKey);
    go(next, left);
    this.#poll(next);
    return next;
  }

  /** The host's datagrams come from another address from now on. */
  roam(host: Host, to: Endpoint): void {
    this.#move.get(host)?.(to);
  }

  send(datagram: Uint8Array, from: Endpoint, to: Endpoint): void {
    if (!this.filter(datagram, from, to)) return;
    const { loss, repeat, delay, jitter } = this.link;
    if (this.#chance() < loss) return;
    const times = this.#chance() < repeat ? 2 : 1;
    for (let i = 0; i < times; i++) {
      const at = this.time + delay + this.#chance() * jitter;
      this.#flights.push({ at, order: this.#order++, datagram, from, to: formatEndpoint(to) });
    }
  }

  /** Lets time pass until the moment, with everything that happens meanwhile. */
  runTo(moment: number): void {
    for (;;) {
      let next = moment;
      for (const { at } of this.#flights) next = Math.min(next, at);
      for (const at of this.#polls.values()) next = Math.min(next, at);
      this.time = Math.max(this.time, next);
      const arrived = this.#flights
        .filter(({ at }) => at <= this.time)
        .sort((a, b) => a.at - b.at || a.order - b.order);
      this.#flights = this.#flights.filter(({ at }) => at > this.time);
      for (const { datagram, from, to } of arrived) {
        const host = this.#hosts.get(to);
        if (host === undefined) continue;
        host.open(datagram, from);
        this.#attend(host);
      }
      for (const [host, at] of this.#polls) if (at <= this.time) this.#poll(host);
      const more = this.#flights.some(({ at }) => at <= moment) || [...this.#polls.values()].some((at) => at < moment);
      if (this.time >= moment && !more) return;
    }
  }

  run(milliseconds: number): void {
    this.runTo(this.time + milliseconds);
  }

  /** The forwarders call the control thread. */
  #attend(host: Host): void {
    const what = Atomics.load(host.memory.i32, host.layout.attention >>> 2);
    if (what === 0) return;
    // as SessionControl: not every peer is looked at for a message
    if (this.lag === 0) return what === ATTENTION_MESSAGES ? host.takeMail() : this.#poll(host);
    const at = this.time + this.#chance() * this.lag;
    this.#polls.set(host, Math.min(at, this.#polls.get(host) ?? at));
  }

  #poll(host: Host): void {
    host.readMail();
    const next = host.poll();
    // a poll that asks for another at once would never end
    if (next <= this.time) throw new Error(`a poll at ${this.time} asks for another at ${next}`);
    this.#polls.set(host, next);
  }

  /** xorshift32 */
  #chance(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return (x >>> 0) / 4_294_967_296;
  }
}

export function v4(n: number, port = 51820): Endpoint {
  return { address: Uint8Array.of(192, 0, 2, n), port };
}

export function v6(n: number, port = 51820): Endpoint {
  return endpointOf((0x2001_0db8n << 96n) | BigInt(n), port);
}

/** Two hosts that know each other; the second only answers if it knows no endpoint. */
export function pair(
  network: Network,
  { presharedKey = undefined as Uint8Array | undefined, both = true, keepalive = 0, at = v4 } = {},
) {
  const a = network.host('a', at(1));
  const b = network.host('b', at(2));
  const ab = a.setPeer({
    publicKey: b.device.publicKey,
    presharedKey,
    endpoint: at(2),
    persistentKeepalive: keepalive,
  });
  const ba = b.setPeer({ publicKey: a.device.publicKey, presharedKey, endpoint: both ? at(1) : undefined });
  return { a, b, ab, ba };
}

/** Bounded randomness for properties that run a whole network. */
export const links = fc.record({
  delay: fc.integer({ min: 0, max: 200 }),
  jitter: fc.integer({ min: 0, max: 300 }),
  loss: fc.double({ min: 0, max: 0.4, noNaN: true }),
  repeat: fc.double({ min: 0, max: 0.3, noNaN: true }),
});
