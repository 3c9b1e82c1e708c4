/**
 * Carries one part of a host to what it should be, again and again.
 *
 * Only the latest wish counts: one that comes while an earlier one is carried out waits for that to end, and whatever came
 * before it is forgotten. So a hundred changes while the part is busy cost one more pass, and passes never overlap.
 */
export class Reconciler<Wish> {
  readonly #carryOut: (wish: Wish) => Promise<void>;
  #next: { readonly wish: Wish; readonly done: Promise<void> } | null = null;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(carryOut: (wish: Wish) => Promise<void>) {
    this.#carryOut = carryOut;
  }

  /** Settles with the outcome of the pass that carries out this wish, or a later one in its place. */
  want(wish: Wish): Promise<void> {
    if (this.#closed) return Promise.resolve();
    if (this.#next !== null) {
      this.#next = { wish, done: this.#next.done };
      return this.#next.done;
    }
    const done = this.#last.then(async () => {
      const next = this.#next;
      this.#next = null;
      if (next !== null && !this.#closed) await this.#carryOut(next.wish);
    });
    this.#next = { wish, done };
    this.#last = done.catch(() => {});
    return done;
  }

  /** Carries out nothing more. Settles when what is being carried out now has ended. */
  close(): Promise<void> {
    this.#closed = true;
    return this.#last.then(() => {});
  }
}
