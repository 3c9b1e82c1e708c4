import os from 'node:os';
import { TweedError } from '../base/errors.js';

const names = new Map(Object.entries(os.constants.errno).map(([name, value]) => [value as number, name]));

/** `EINVAL` for 22, and so on; `errno 12345` for a number that has no name here. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** A system call that failed on the control side. Forwarders do not throw: they count. */
export class SystemCallError extends TweedError {
  constructor(
    readonly call: string,
    readonly errno: number,
    hint: string,
  ) {
    super(`SYSCALL_${errnoName(errno)}`, `${call}: ${errnoName(errno)}; ${hint}`);
  }
}
