/** Where this kernel keeps what connection tracking knows of a packet. */
import { readFileSync } from 'node:fs';
import { Btf, BtfError, joinTypes } from './btf.js';
import type { ConntrackPlaces } from './programs/settings.js';

/** The kernel's types; a test scripts them. @param module `vmlinux`, or a module @returns null where there are none */
export type ReadTypes = (module: string) => Uint8Array | null;

export const readTypes: ReadTypes = (module) => {
  try {
    return readFileSync(`/sys/kernel/btf/${module}`);
  } catch {
    return null;
  }
};

/** @throws BtfError when this kernel does not tell */
export function conntrackPlaces(read: ReadTypes = readTypes): ConntrackPlaces {
  const bytes = read('vmlinux');
  if (bytes === null) throw new BtfError('this kernel does not describe its types');
  const kernel = new Btf(bytes);
  return {
    castToKernel: kernel.functionNumber('bpf_cast_to_kern_ctx'),
    connectionInPacket: kernel.offsetOf('sk_buff', '_nfct'),
    statusInConnection: statusOffset(kernel, bytes, read),
  };
}

/** Where connection tracking is a module, its types may be told with the module's, as an addition to the kernel's. */
function statusOffset(kernel: Btf, bytes: Uint8Array, read: ReadTypes): number {
  const module = kernel.has('nf_conn') ? null : read('nf_conntrack');
  return (module === null ? kernel : new Btf(joinTypes(bytes, module))).offsetOf('nf_conn', 'status');
}
