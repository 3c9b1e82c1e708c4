/**
 * The control thread's part of the user engine: handshakes, sessions and their peers, beside the forwarders that use them.
 *
 * Theory of operation. A forwarder that has something for us (a handshake message in the mailbox, a packet without a
 * session, a peer that speaks from elsewhere) says what in `attention` and calls, once until we come. We clear the word
 * first, so nothing that happens afterwards is missed, take in the messages, and let the device look at all its peers; not
 * where messages are all there is: they say whose they are, and with hundreds of peers looking at all takes as long as
 * answering one. Whatever a forwarder has to know in turn (a session to send staged packets under, one that ended) is in
 * shared memory by then, and a wake-up tells it to look. That a session has ended can wait until all peers are looked at:
 * nobody uses its keys any more, they are only to be forgotten.
 *
 * A peer's record has one number, for the forwarding table and for WireGuard. It may pass to another peer only after the
 * sessions of the first are gone: else a packet would be sealed for one host and sent to another.
 */
import { formatEndpoint } from '../../base/address.js';
import { unforeseen } from '../../base/unforeseen.js';
import type { DataPlane } from '../../encap/datapath/data-plane.js';
import type { SealingOptions } from '../../encap/datapath/options.js';
import { createSealer } from '../../encap/datapath/sealing.js';
import { type Peer, peerName } from '../../encap/forwarding/forwarding-table.js';
import { MSG_DONTWAIT } from '../../linux/constants.js';
import { createCopy } from '../../linux/copy.js';
import { control as libc } from '../../linux/libc.js';
import type { RegionAllocator } from '../../linux/memory.js';
import { createRandom } from '../../linux/random.js';
import { SOCKADDR_IN_BYTES } from '../../linux/structs.js';
import { decodeBequest, encodeBequest } from '../../wireguard/bequest.js';
import { Device, type PeerStatus } from '../../wireguard/device.js';
import type { Now } from '../../wireguard/device-context.js';
import { addressOf, type Endpoint, endpointOf } from '../../wireguard/endpoint.js';
import type { PrivateKey } from '../../wireguard/keys.js';
import { MAILBOX_ENTRIES, Mailbox } from '../../wireguard/mailbox.js';
import { SOCKADDR_BYTES, writeSockaddr } from '../../wireguard/peer-records.js';
import { ATTENTION_MESSAGES } from '../../wireguard/transport-layout.js';
import type { EngineContext, EngineRefusals } from './engine.js';
import type { WireguardPeer } from './peers.js';

/** What of the data plane it works with. */
export type SessionPlane = Pick<DataPlane, 'memory' | 'table' | 'wake'>;

export interface SessionControlOptions {
  readonly plane: SessionPlane;
  readonly sealing: SealingOptions;
  /** Memory of its own. */
  readonly regions: RegionAllocator;
  /** The forwarders', by family; −1 for one that this host does not have. */
  readonly sockets: { readonly ipv4: number; readonly ipv6: number };
  readonly privateKey: PrivateKey;
  readonly context: Pick<EngineContext, 'presharedKey' | 'keepalive'>;
  readonly clock?: (() => Now) | undefined;
  readonly sendto?: typeof libc.sendto;
  /** It says nothing to anybody before `begin`: answers would go to another process. */
  readonly waits?: boolean;
}

/** Until the next round after one that ended with an error that nobody foresaw. */
const AFTER_A_BUG_MS = 250;
/** So many peers are greeted at the start; the others wait until there is something to send. */
const MOST_GREETINGS = 256;

interface Known {
  readonly number: number;
  readonly name: string;
  readonly endpoint: string;
}

export class SessionControl {
  readonly device: Device;
  readonly #options: SessionControlOptions;
  readonly #mailbox: Mailbox;
  readonly #peers = new Map<string, Known>();
  readonly #attention: number;
  readonly #clock: () => Now;
  readonly #sendto: typeof libc.sendto;
  readonly #address = new Uint8Array(SOCKADDR_BYTES);
  #timer: NodeJS.Timeout | undefined;
  #closed = false;
  #waits: boolean;
  #endings = 0;
  #hasNews = false;
  /** When the device is to look at its peers again, at the latest. */
  #pollAt = Number.NEGATIVE_INFINITY;
  readonly #met = new Set<number>();
  /** Peers that speak from elsewhere, for whose new address there was no room in the forwarding table yet. */
  readonly #unmoved = new Map<number, Endpoint>();
  #handshakes = 0;
  #rekeys = 0;
  #unanswered = 0;
  #unsent = 0;

  constructor(options: SessionControlOptions) {
    const { plane, sealing, regions, privateKey } = options;
    const { memory } = plane;
    this.#options = options;
    this.#waits = options.waits ?? false;
    this.#clock = options.clock ?? (() => ({ monotonic: performance.now(), wall: Date.now() }));
    this.#sendto = options.sendto ?? libc.sendto;
    this.#attention = sealing.layout.attention >>> 2;
    this.#mailbox = new Mailbox(memory, sealing.layout.mailbox, createCopy(memory));
    this.device = new Device({
      privateKey,
      memory,
      layout: sealing.layout,
      sealer: createSealer({ memory, call: () => {} }, regions, sealing),
      random: createRandom(),
      output: {
        send: (message, to) => this.#send(message, to),
        ready: (peer) => this.#ready(peer),
        unreachable: () => {
          this.#unanswered++;
          this.#hasNews = true;
        },
        moved: (peer, endpoint) => this.#move(peer, endpoint),
      },
    });
  }

  /**
   * These are the peers, all of them, in the forwarding table too. Sessions of those that stay go on.
   *
   * @returns those that cannot be had
   */
  setPeers(wanted: readonly WireguardPeer[]): EngineRefusals {
    const { table } = this.#options.plane;
    const now = this.#clock();
    const bySubnet = new Map(wanted.map((peer) => [peerName(peer), peer]));
    for (const [subnet, { number, name }] of this.#peers) {
      if (bySubnet.get(subnet)?.name === name) continue;
      this.device.removePeer(number, now);
      this.#met.delete(number);
      this.#unmoved.delete(number);
      this.#peers.delete(subnet);
    }
    table.replaceAll(wanted.map(inTable));
    const refused = new Map(table.refused.map((peer) => [peerName(peer), peer.reason]));
    const unusable = new Set<WireguardPeer>();
    for (const [subnet, peer] of bySubnet) {
      const half = peer.subnet ?? peer.subnetV6;
      const number = half === null ? undefined : table.numberOf(half);
      if (number === undefined) continue;
      const text = formatEndpoint(peer.address, peer.port);
      // a roaming peer is let roam until its lease says something new
      if (this.#peers.get(subnet)?.endpoint === text) continue;
      this.#unmoved.delete(number);
      if (!this.#setPeer(peer, number, now)) {
        unusable.add(peer);
        refused.set(subnet, 'its public key is one that nobody can have');
      } else this.#peers.set(subnet, { number, name: peer.name, endpoint: text });
    }
    if (unusable.size > 0) table.replaceAll(wanted.filter((peer) => !unusable.has(peer)).map(inTable));
    this.attend();
    return refused;
  }

  /**
   * The forwarders run, and the socket is ours alone.
   *
   * @param hasPast makes sessions with peers now: one that had a session with a former life of this host goes on sending
   *   under it, and would notice only after 15 s without an answer (KEEPALIVE_TIMEOUT and REKEY_TIMEOUT). Not for a host that
   *   is new: its peers learn of it a moment later, would not know who greets them, and nothing could be sent to them before
   *   the next initiation, which may not leave for another REKEY_TIMEOUT
   */
  begin(hasPast: boolean): void {
    this.#waits = false;
    const numbers = [...this.#peers.values()].map(({ number }) => number);
    if (hasPast) for (const number of numbers.slice(-MOST_GREETINGS)) this.device.connect(number, this.#clock());
    this.attend();
  }

  #setPeer({ publicKey, address, port }: WireguardPeer, number: number, now: Now): boolean {
    const { presharedKey, keepalive } = this.#options.context;
    try {
      this.device.setPeer(
        {
          number,
          publicKey,
          presharedKey: presharedKey ?? undefined,
          endpoint: endpointOf(address, port),
          persistentKeepalive: keepalive * 1000,
        },
        now,
      );
      return true;
    } catch {
      return false;
    }
  }

  /** A forwarder calls. Never throws. */
  called(): void {
    if (this.#closed || this.#waits) return;
    const what = Atomics.exchange(this.#options.plane.memory.i32, this.#attention, 0);
    if (what !== ATTENTION_MESSAGES || this.#clock().monotonic >= this.#pollAt) return this.attend();
    unforeseen.guard('taking messages in', () => this.#takeMessages());
    if (this.#hasNews) this.#wake();
    if (this.#mailbox.waiting > 0) this.#comeIn(0);
  }

  /** Comes when called, when the device has something to do, and at least every 250 ms. Never throws. */
  attend(): void {
    if (this.#closed || this.#waits) return;
    Atomics.store(this.#options.plane.memory.i32, this.#attention, 0);
    // a bug costs this round, not all that follow
    this.#comeIn(unforeseen.guard('attending to sessions', () => this.#round()) ?? AFTER_A_BUG_MS);
  }

  #comeIn(milliseconds: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.attend(), milliseconds).unref();
  }

  /** @returns milliseconds until the next is due */
  #round(): number {
    this.#takeMessages();
    this.#pollAt = this.device.poll(this.#clock());
    for (const [peer, endpoint] of this.#unmoved) this.#move(peer, endpoint);
    if (this.#hasNews || this.device.endings !== this.#endings) this.#wake();
    return this.#mailbox.waiting > 0 ? 0 : Math.max(1, this.#pollAt - this.#clock().monotonic);
  }

  #takeMessages(): void {
    for (let taken = 0; taken < MAILBOX_ENTRIES; taken++) {
      const letter = this.#mailbox.take();
      if (letter === undefined) return;
      this.device.receive(letter.message, letter.from, this.#clock());
    }
  }

  #wake(): void {
    this.#hasNews = false;
    this.#endings = this.device.endings;
    this.#options.plane.wake();
  }

  /** All that another process can go on with, keys among it. The forwarders have ended; `close` is next. Null for nothing. */
  bequeath(): Uint8Array | null {
    if (this.#closed || this.#waits) return null;
    this.attend(); // what came until they ended
    const left = this.device.bequeath(this.#clock());
    const bytes = encodeBequest(left);
    for (const { keypairs } of left.peers) for (const { slot } of keypairs) slot.fill(0);
    return bytes;
  }

  /**
   * Goes on with what another process left. To be called before `begin`, and before the forwarders run.
   *
   * @returns how many peers have a session now
   * @throws BequestError
   */
  adopt(bytes: Uint8Array): number {
    const adopted = this.device.adopt(decodeBequest(bytes), this.#clock());
    for (const number of adopted) this.#met.add(number);
    return adopted.length;
  }

  /** Ends every session; all keys are zero afterwards. The forwarders have ended. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.device.close(this.#clock());
  }

  /** By the number of their records. */
  statuses(): ReadonlyMap<number, PeerStatus> {
    return new Map([...this.device.peers()].map((peer) => [peer.number, peer]));
  }

  /** Running totals, and drops by reason, of handshakes. */
  counted(): { readonly totals: Record<string, number>; readonly drops: Record<string, number> } {
    const drops = Object.entries(this.device.drops).map(([reason, count]) => [`handshake_${reason}`, count]);
    return {
      totals: {
        handshakes: this.#handshakes,
        handshakes_unanswered: this.#unanswered,
        rekeys: this.#rekeys,
      },
      drops: { ...Object.fromEntries(drops), handshake_send_error: this.#unsent },
    };
  }

  #ready(peer: number): void {
    this.#handshakes++;
    if (this.#met.has(peer)) this.#rekeys++;
    this.#met.add(peer);
    this.#hasNews = true;
  }

  /** Room comes when the forwarders have let go of addresses that peers have left: a few rounds later at most. */
  #move(peer: number, endpoint: Endpoint): void {
    const { table } = this.#options.plane;
    if (table.moveTo(peer, addressOf(endpoint), endpoint.port)) this.#unmoved.delete(peer);
    else this.#unmoved.set(peer, endpoint);
  }

  #send(message: Uint8Array, to: Endpoint): void {
    writeSockaddr(this.#address, 0, to);
    const { ipv4, ipv6 } = this.#options.sockets;
    const [socket, length] = to.address.length === 4 ? [ipv4, SOCKADDR_IN_BYTES] : [ipv6, SOCKADDR_BYTES];
    const sent = this.#sendto(socket, message, message.length, MSG_DONTWAIT, this.#address, length);
    if (sent < 0) this.#unsent++;
  }
}

/** Of a peer's addresses the forwarding table is told the one that is to be used. */
function inTable({ subnet, subnetV6, address, port }: WireguardPeer): Peer {
  const way =
    typeof address === 'number' ? { publicIp: address, publicIpv6: null } : { publicIp: 0, publicIpv6: address };
  return { subnet, subnetV6, ...way, port };
}
