import { readFileSync } from 'node:fs';
import { exec } from '../../base/exec.js';
import { type IpTool, ipTool, type Run } from '../../routes/ip.js';

/** The tools through which a backend that forwards in the kernel sets it up. Tests put in those of a namespace. */
export interface Kernel {
  readonly ip: IpTool;
  /** For the forwarding entries of VXLAN devices. */
  readonly bridge: IpTool;
  /** A file of /proc/net, such as `dev`. */
  readStatistics(file: string): string;
}

export function kernelThrough(run: Run, readStatistics = ownStatistics): Kernel {
  return { ip: ipTool(run), bridge: ipTool(run, 'bridge'), readStatistics };
}

const latest = new Map<string, string>();

/** Where it cannot be read, for want of a descriptor, the counters stand still; going back to 0 would mean a restart. */
function ownStatistics(file: string): string {
  try {
    latest.set(file, readFileSync(`/proc/self/net/${file}`, 'utf8'));
  } catch {
    // as it was
  }
  return latest.get(file) ?? '';
}

/** The kernel of the host that this process runs on. */
export const hostKernel: Kernel = kernelThrough(exec);
