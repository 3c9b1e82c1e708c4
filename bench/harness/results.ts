/**
 * The shape of results/*.json. docs/benchmarks.md describes it for readers; SCHEMA changes with every change that a
 * reader could notice.
 */

export const SCHEMA = 'tweed-bench/1';

/** A quantity that a measurement yields. */
export interface Metric {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  /** Which direction is good; `none` for what only explains other numbers. */
  readonly better: 'more' | 'less' | 'none';
  /** Decimals to show. */
  readonly digits: number;
}

export type Values = Readonly<Record<string, number>>;

/** One measurement of one contender in one round: everything that was seen, nothing computed over several rounds. */
export interface Sample {
  readonly suite: string;
  /** What was measured, such as `tcp-1`. */
  readonly measurement: string;
  /** Who was measured. */
  readonly contender: string;
  /** `whole` or `segmented`, what the link between the hosts can do; empty where there is no link. */
  readonly underlay: string;
  /** From 0. */
  readonly round: number;
  /** Milliseconds since the run began. */
  readonly at: number;
  readonly values: Values;
}

export interface ContenderInfo {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly encrypted: boolean;
  /** What it said of itself at the start: its offloads, its version. */
  readonly features: Record<string, string>;
  /** Why it did not take part; empty when it did. */
  readonly unavailable: string;
}

export interface MeasurementInfo {
  readonly suite: string;
  readonly id: string;
  readonly title: string;
  readonly metrics: readonly Metric[];
}

/** A measurement that failed, with the error's words. It has no sample. */
export interface Failure {
  readonly suite: string;
  readonly measurement: string;
  readonly contender: string;
  readonly underlay: string;
  readonly round: number;
  readonly message: string;
}

export interface Machine {
  readonly kernel: string;
  readonly cpuModel: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly hypervisor: string;
  readonly node: string;
  readonly tweed: string;
  readonly commit: string;
  readonly iperf3: string;
  readonly mitigations: Readonly<Record<string, string>>;
  readonly sysctls: Readonly<Record<string, string>>;
}

/** How quiet the machine was. */
export interface Quietness {
  /** CPUs kept busy by others, on average over a second before the first measurement. */
  readonly busyBefore: number;
  readonly loadAverage: readonly number[];
  /** Share of the run's CPU time that the hypervisor gave to others. */
  readonly stolen: number;
  /** CPUs kept busy by other programs, on average over the run. */
  readonly others: number;
}

export interface Results {
  readonly schema: typeof SCHEMA;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly seconds: number;
  /** False when the run was interrupted: the samples are those of the finished rounds. */
  readonly complete: boolean;
  readonly options: Readonly<Record<string, unknown>>;
  readonly machine: Machine;
  readonly quietness: Quietness;
  readonly contenders: readonly ContenderInfo[];
  readonly measurements: readonly MeasurementInfo[];
  readonly samples: readonly Sample[];
  readonly failures: readonly Failure[];
}
