/**
 * An offload that the kernel has refused at run time: off for the moment, or for good?
 *
 * Most refusals say that the kernel cannot do it, and each costs a run of packets that are sent or written twice. But the
 * same answer comes of things that pass: an address that is gone for a moment, a path MTU that changes in the middle of a
 * replay. So a refusal turns the offload off, the control thread turns it on again after a while, and only when it is
 * refused so many times with not one success in between is it given up.
 */
import type { ControlBlock, RuntimeFeature } from '../forwarding/control-block.js';

export const MOST_REFUSALS = 5;

/** Owned by the forwarder that uses the offload. */
export class Refusals {
  readonly #control: ControlBlock;
  readonly #feature: RuntimeFeature;
  #inARow = 0;

  constructor(control: ControlBlock, feature: RuntimeFeature) {
    this.#control = control;
    this.#feature = feature;
  }

  /** May the offload be used now? Asked once a turn. */
  get inForce(): boolean {
    return this.#control.turnedOff(this.#feature) === 0;
  }

  refused(errno: number): void {
    this.#inARow++;
    this.#control.turnOff(this.#feature, errno, this.#inARow >= MOST_REFUSALS);
  }

  succeeded(): void {
    this.#inARow = 0;
  }
}
