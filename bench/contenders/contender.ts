import type { End, Families, Pair } from '../network/pair.js';

/** A way for the packets of one host's container to reach the other host's. */
export interface Contender {
  /** Short and stable: results are compared by it. */
  readonly id: string;
  readonly title: string;
  /** How it is configured, and what is unequal about it; for the report. */
  readonly description: string;
  readonly encrypted: boolean;
  /** Somebody else's program: when it does not start, the run goes on without it. */
  readonly foreign?: boolean;
  /** MTU of the containers behind it, in bytes. */
  readonly mtu: number;
  /** IPv4 by IPv4 if not told. */
  readonly families?: Families;
  /** Why it cannot run on this machine; empty when it can. */
  unavailable(): Promise<string>;
  start(pair: Pair): Promise<Running>;
}

/** A contender between `start` and `stop`. */
export interface Running {
  /** The processes that move packets; empty where the kernel does it. */
  readonly pids: readonly number[];
  /** The device of an end that user space reads and writes; null where the kernel does the work. */
  readonly device: ((end: End) => string) | null;
  /** Its own counters, summed over both hosts, where it has any. */
  counters?(): Promise<Readonly<Record<string, number>>>;
  /** What it says of itself, for the results file: which of its offloads are in force. */
  features?(): Promise<Readonly<Record<string, string>>>;
  stop(): Promise<void>;
}

/** The end that is not this one. */
export function otherEnd(pair: Pair, end: End): End {
  return end.number === 1 ? pair.ends[1] : pair.ends[0];
}
