import { readFileSync } from 'node:fs';
import { exec } from '../../base/exec.js';
import { type BatchFailure, type IpTool, ipTool, type Run, runBatch } from '../../routes/ip.js';

/** The tools through which a backend that forwards in the kernel sets it up. Tests put in those of a namespace. */
export interface Kernel {
  readonly ip: IpTool;
  readonly bridge: BridgeTool;
  /** Starts any program; for what neither of the two can ask. */
  readonly run: Run;
  /** A file of /proc/net, such as `dev`. */
  readStatistics(file: string): string;
}

/** The `bridge` program, for the forwarding entries of VXLAN devices. */
export interface BridgeTool {
  json<T>(...words: string[]): Promise<T>;
  /** Runs many commands in one process, all of them, and returns those that were refused. */
  batchAll(lines: readonly string[]): Promise<readonly BatchFailure[]>;
}

export function kernelThrough(run: Run, readStatistics = ownStatistics): Kernel {
  return {
    ip: ipTool(run),
    bridge: {
      async json<T>(...words: string[]): Promise<T> {
        const { stdout } = await run(['bridge', '-json', ...words]);
        return JSON.parse(stdout.trim() || '[]') as T;
      },
      batchAll: (lines) => runBatch('bridge', lines, run),
    },
    run,
    readStatistics,
  };
}

function ownStatistics(file: string): string {
  return readFileSync(`/proc/self/net/${file}`, 'utf8');
}

/** The kernel of the host that this process runs on. */
export const hostKernel: Kernel = kernelThrough(exec);
