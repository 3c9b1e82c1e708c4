/**
 * The key pairs of one peer: under which of them its packets leave, and under which they may come.
 *
 * Theory of operation (paper, section 6.3). The initiator of a session sends under it at once; the responder only after
 * something came under it: until then it is the next one. Whichever it is, the peer goes on sending under an older one
 * until it has heard of the new, and what is under way may be overtaken. Where both ends initiate at the same time, each
 * may even send under a session of its own for its whole life. So a key pair that is not sent under any more is retired:
 * it still opens what comes. Other implementations keep one such key pair, and lose packets when handshakes cross; here
 * there are some more, until all end after REJECT_AFTER_TIME.
 */
import type { KeypairBequest, KeypairRole } from './bequest.js';
import { REJECT_AFTER_TIME, REKEY_AFTER_TIME } from './constants.js';
import type { DeviceContext, Now } from './device-context.js';
import type { TransportKeys } from './handshake.js';

const NEVER = Number.POSITIVE_INFINITY;

/** Key pairs that only open. Initiations are REKEY_TIMEOUT apart, so the oldest is some 20 s old when it has to go. */
export const RETIRED_KEYPAIRS = 4;

export interface Keypair {
  /** Ours: in the peer's messages, and of the slot. */
  readonly index: number;
  readonly initiator: boolean;
  readonly createdAt: number;
  /** When its initiator asks for another as it sends. */
  readonly renewAt: number;
}

/** Owned by the control thread. */
export class Keypairs {
  readonly #context: DeviceContext;
  readonly #peer: number;
  #current: Keypair | undefined;
  #next: Keypair | undefined;
  /** The last retired first. */
  readonly #retired: Keypair[] = [];

  /** @param peer the number of its record */
  constructor(context: DeviceContext, peer: number) {
    this.#context = context;
    this.#peer = peer;
  }

  /** The one that packets leave under. */
  get current(): Keypair | undefined {
    return this.#current;
  }

  /** The one that waits for its initiator's first packet. */
  get next(): Keypair | undefined {
    return this.#next;
  }

  /** @returns an index for a handshake; undefined when every slot is taken */
  reserve(now: Now): number | undefined {
    const index = this.#context.slots.reserve(now.monotonic);
    if (index !== undefined) this.#context.bind(index, this.#peer);
    return index;
  }

  /** Gives up an index whose handshake came to nothing. */
  giveBack(index: number, now: Now): void {
    this.#context.unbind(index);
    this.#context.slots.release(index, now.monotonic);
  }

  /** The session of an initiation that is being answered. */
  answered(index: number, remoteIndex: number, keys: TransportKeys, now: Now): void {
    this.#retire(this.#next, now);
    this.#next = this.#install(index, remoteIndex, keys, false, now, 0);
  }

  /** The session of our own initiation. @param patience milliseconds by which it is renewed later than others */
  initiated(index: number, remoteIndex: number, keys: TransportKeys, now: Now, patience: number): void {
    const keypair = this.#install(index, remoteIndex, keys, true, now, patience);
    this.#retire(this.#current, now);
    this.#retire(this.#next, now);
    this.#next = undefined;
    this.#use(keypair);
  }

  /** The responder's step. @returns true when something has come under the next key pair, which is the current one now */
  confirm(now: Now): boolean {
    const next = this.#next;
    if (next === undefined || !this.#context.slots.confirmed(next.index)) return false;
    this.#retire(this.#current, now);
    this.#next = undefined;
    this.#use(next);
    return true;
  }

  /** Ends those that are too old. */
  expire(now: Now): void {
    const isOver = ({ createdAt }: Keypair) => now.monotonic - createdAt >= REJECT_AFTER_TIME;
    for (let i = this.#retired.length - 1; i >= 0; i--) {
      if (isOver(this.#retired[i])) this.#end(this.#retired.splice(i, 1)[0], now);
    }
    if (this.#next !== undefined && isOver(this.#next)) {
      this.#end(this.#next, now);
      this.#next = undefined;
    }
    if (this.#current !== undefined && isOver(this.#current)) {
      this.#context.records.setSending(this.#peer, -1);
      this.#end(this.#current, now);
      this.#current = undefined;
    }
  }

  /** When `expire` has something to do, in monotonic milliseconds. */
  get expiry(): number {
    let first = Math.min(this.#current?.createdAt ?? NEVER, this.#next?.createdAt ?? NEVER);
    for (const { createdAt } of this.#retired) first = Math.min(first, createdAt);
    return first + REJECT_AFTER_TIME;
  }

  /** What another process can go on with. */
  bequeath(now: Now): KeypairBequest[] {
    const { slots } = this.#context;
    const left = (role: KeypairRole, { index, initiator, createdAt, renewAt }: Keypair): KeypairBequest => {
      const times = { age: now.monotonic - createdAt, renewIn: renewAt - now.monotonic };
      return { role, index, initiator, ...times, slot: slots.copyOf(index) };
    };
    return [
      ...(this.#current === undefined ? [] : [left('current', this.#current)]),
      ...(this.#next === undefined ? [] : [left('next', this.#next)]),
      ...this.#retired.map((keypair) => left('retired', keypair)),
    ];
  }

  /** Goes on with what another process left, that long ago. To be called on one that is new. */
  adopt(keypairs: readonly KeypairBequest[], elapsed: number, now: Now): void {
    for (const { role, index, initiator, age, renewIn, slot } of keypairs) {
      const createdAt = now.monotonic - age - elapsed;
      if (!(now.monotonic - createdAt < REJECT_AFTER_TIME)) continue;
      if (!this.#context.slots.adopt(index, this.#peer, slot)) continue;
      this.#context.bind(index, this.#peer);
      const keypair = { index, initiator, createdAt, renewAt: now.monotonic + renewIn - elapsed };
      if (role === 'retired') this.#retired.push(keypair);
      else if (role === 'next') this.#next = keypair;
      else this.#use(keypair);
    }
  }

  /** Ends all of them. */
  forget(now: Now): void {
    this.#context.records.setSending(this.#peer, -1);
    for (const keypair of [...this.#retired.splice(0), this.#current, this.#next]) {
      if (keypair !== undefined) this.#end(keypair, now);
    }
    this.#current = undefined;
    this.#next = undefined;
  }

  #install(
    index: number,
    remoteIndex: number,
    keys: TransportKeys,
    initiator: boolean,
    now: Now,
    patience: number,
  ): Keypair {
    this.#context.slots.install(index, this.#peer, remoteIndex, keys);
    const createdAt = now.monotonic;
    return { index, initiator, createdAt, renewAt: createdAt + REKEY_AFTER_TIME + patience };
  }

  #use(keypair: Keypair): void {
    this.#current = keypair;
    this.#context.records.setSending(this.#peer, this.#context.slots.slotOf(keypair.index));
  }

  #retire(keypair: Keypair | undefined, now: Now): void {
    if (keypair === undefined) return;
    this.#retired.unshift(keypair);
    if (this.#retired.length > RETIRED_KEYPAIRS) this.#end(this.#retired.pop()!, now);
  }

  #end({ index }: Keypair, now: Now): void {
    this.giveBack(index, now);
  }
}
