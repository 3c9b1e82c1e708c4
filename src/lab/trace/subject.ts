/** What a trace needs of a lab, and what two kinds of lab have for it. */
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import type { ExecOptions, ExecResult } from '../../base/exec.js';
import type { DaemonStatus } from '../../observe/status.js';
import type { Publication } from '../names.js';
import type { LabOptions } from '../options.js';
import type { Probe } from '../probe/client.js';

/** The lab that a packet is traced in. */
export interface TraceLab {
  /** A command of the lab as it is typed: of `exec` and `host1 -- ip route`. */
  readonly typed: (command: string, ...words: readonly string[]) => string;
  readonly backend: LabOptions['backend'];
  readonly publications: readonly Publication[];
  /** What is between the hosts and can be looked at; hosts and containers are places besides. */
  readonly between: readonly string[];
  /** Every place that has addresses, with all of them; the first of a family is the one that it is reached at. */
  addressBook(): Promise<ReadonlyMap<string, readonly string[]>>;
  /** The place whose network it is: for a container that shares one, its host or another container. */
  networkOf(place: string): string;
  /** The host's daemon; null where none answers. */
  daemonStatus(host: string): Promise<DaemonStatus | null>;
  exec(place: string, argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;
  spawn(place: string, argv: readonly string[], options: SpawnOptions): ChildProcess;
  probe(place: string): Probe;
  /** @throws LabError where something is missing that tracing takes */
  prepare(): Promise<void>;
}
