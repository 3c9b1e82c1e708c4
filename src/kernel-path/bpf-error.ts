import { E2BIG, EACCES, EINVAL, ENOMEM, ENOSPC, ENOSYS, EOPNOTSUPP, EPERM } from '../linux/constants.js';
import { SystemCallError } from '../linux/errno.js';

/** A refusal of bpf(2). Its message ends with what to do; `log` is what the verifier said, if it was the verifier. */
export class BpfError extends SystemCallError {
  constructor(
    what: string,
    errno: number,
    readonly log = '',
  ) {
    super(`bpf ${what}`, errno, log === '' ? remedyOf(errno) : `the verifier says: ${lastWords(log)}`);
  }
}

function remedyOf(errno: number): string {
  switch (errno) {
    case EPERM:
    case EACCES:
      return 'give the process CAP_BPF and CAP_NET_ADMIN (CAP_SYS_ADMIN before Linux 5.8) and, before 5.11, a higher limit of locked memory; kernel lockdown must allow it';
    case ENOSYS:
      return 'the kernel has no bpf(2); use one with CONFIG_BPF_SYSCALL';
    case EINVAL:
    case EOPNOTSUPP:
      return 'this kernel does not know what was asked for; use a newer one';
    case E2BIG:
    case ENOSPC:
      return 'there are more entries than the map holds';
    case ENOMEM:
      return 'the kernel has no memory left for it';
    default:
      return 'look at the kernel log';
  }
}

/** The verifier's log tells its whole way; the reason stands before the statistics at its end. */
function lastWords(log: string): string {
  const lines = log
    .split('\n')
    .filter((line) => line !== '' && !/^(processed|verification time|stack depth)/.test(line));
  return lines.slice(-2).join(' | ');
}
