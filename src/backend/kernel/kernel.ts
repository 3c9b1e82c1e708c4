import { readFileSync } from 'node:fs';
import { exec } from '../../base/exec.js';
import { type IpTool, ipTool, type Run } from '../../routes/ip.js';

/** The tools through which a backend that forwards in the kernel sets it up. Tests put in those of a namespace. */
export interface Kernel {
  readonly ip: IpTool;
  /** For the forwarding entries of VXLAN devices. */
  readonly bridge: IpTool;
  /**
   * Writes a switch of /proc/sys, such as `net/ipv6/conf/flannel-v6.1/accept_ra`. Where it is not there, or may not be
   * written, as in most containers, it stays as it is.
   */
  setSwitch(path: string, value: string): Promise<void>;
  /** A file of /proc/net, such as `dev`. */
  readStatistics(file: string): string;
}

export function kernelThrough(run: Run, readStatistics = ownStatistics): Kernel {
  const setSwitch = async (path: string, value: string) => {
    await run(['tee', `/proc/sys/${path}`], { input: value, tolerate: true });
  };
  return { ip: ipTool(run), bridge: ipTool(run, 'bridge'), setSwitch, readStatistics };
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
