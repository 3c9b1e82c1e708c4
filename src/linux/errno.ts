import os from 'node:os';
import { TweedError } from '../base/errors.js';
import { control } from './libc.js';

/** Those of Linux that Node does not name (asm-generic/errno.h). */
const OTHERS: Readonly<Record<string, number>> = {
  ...{ ENOTBLK: 15, ECHRNG: 44, EL2NSYNC: 45, EL3HLT: 46, EL3RST: 47, ELNRNG: 48, EUNATCH: 49, ENOCSI: 50, EL2HLT: 51 },
  ...{ EBADE: 52, EBADR: 53, EXFULL: 54, ENOANO: 55, EBADRQC: 56, EBADSLT: 57, EBFONT: 59, ENONET: 64, ENOPKG: 65 },
  ...{ EREMOTE: 66, EADV: 68, ESRMNT: 69, ECOMM: 70, EDOTDOT: 73, ENOTUNIQ: 76, EBADFD: 77, EREMCHG: 78, ELIBACC: 79 },
  ...{ ELIBBAD: 80, ELIBSCN: 81, ELIBMAX: 82, ELIBEXEC: 83, ERESTART: 85, ESTRPIPE: 86, EUSERS: 87 },
  ...{ ESOCKTNOSUPPORT: 94, EPFNOSUPPORT: 96, ESHUTDOWN: 108, ETOOMANYREFS: 109, EHOSTDOWN: 112, EUCLEAN: 117 },
  ...{ ENOTNAM: 118, ENAVAIL: 119, EISNAM: 120, EREMOTEIO: 121, ENOMEDIUM: 123, EMEDIUMTYPE: 124, ENOKEY: 126 },
  ...{ EKEYEXPIRED: 127, EKEYREVOKED: 128, EKEYREJECTED: 129, EOWNERDEAD: 130, ENOTRECOVERABLE: 131, ERFKILL: 132 },
  ...{ EHWPOISON: 133 },
};

const names = new Map(
  Object.entries({ ...OTHERS, ...os.constants.errno }).map(([name, value]) => [value as number, name]),
);

/** `EINVAL` for 22, and so on; `errno 12345` for a number that has no name. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? `errno ${errno}`;
}

/** With libc's words for it: `EINVAL: Invalid argument`. */
export function errnoText(errno: number): string {
  return `${errnoName(errno)}: ${control.strerror(errno)}`;
}

/** A system call that failed on the control side. Forwarders do not throw: they count. */
export class SystemCallError extends TweedError {
  constructor(
    readonly call: string,
    readonly errno: number,
    hint: string,
  ) {
    super(`SYSCALL_${errnoName(errno)}`, `${call}: ${errnoText(errno)}; ${hint}`);
  }
}
