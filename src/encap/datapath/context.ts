import type { Syscalls } from '../../linux/libc.js';
import type { SharedMemory } from '../../linux/memory.js';
import { ControlBlock, type Direction } from '../forwarding/control-block.js';
import { Counters } from '../forwarding/counters.js';
import { createSum, type Sum } from '../wire/checksum.js';
import type { ForwarderOptions } from './options.js';

/** What everything in a forwarder's thread works with. */
export interface ForwarderContext {
  readonly memory: SharedMemory;
  readonly sys: Syscalls;
  readonly sum: Sum;
  readonly control: ControlBlock;
  readonly counters: Readonly<Record<Direction, Counters>>;
  readonly options: ForwarderOptions;
  /** Calls the control thread; seldom, and once for as long as it has not come. */
  readonly call: () => void;
}

/** Looks at the memory as `options.layout` has it. Every thread makes its own context of the same memory. */
export function makeContext(
  memory: SharedMemory,
  sys: Syscalls,
  options: ForwarderOptions,
  call: () => void = () => {},
): ForwarderContext {
  const { control, txCounters, rxCounters } = options.layout;
  return {
    memory,
    sys,
    sum: createSum(memory),
    control: new ControlBlock(memory.i32, control),
    counters: { tx: new Counters(memory.f64, txCounters), rx: new Counters(memory.f64, rxCounters) },
    options,
    call,
  };
}
