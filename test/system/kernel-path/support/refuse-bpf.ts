/** A kernel that refuses bpf(2), or a part of it. */
import { BPF_LINK_CREATE, BPF_MAP_CREATE, BPF_PROG_LOAD } from '../../../../src/linux/bpf.js';
import { EINVAL, ENOSYS, EPERM } from '../../../../src/linux/constants.js';

const program = new URL('refuse-bpf.mjs', import.meta.url);

/** Arguments of Node's by which the program that it runs is refused these commands. */
function refusing(errno: number, commands: readonly number[] | 'all'): readonly string[] {
  const url = new URL(program);
  url.searchParams.set('errno', String(errno));
  url.searchParams.set('commands', String(commands));
  return [`--import=${url}`];
}

/** Linux before 6.6 has no links for tc. */
export const WITHOUT_TCX = refusing(EINVAL, [BPF_LINK_CREATE]);
/** Built without CONFIG_BPF_SYSCALL. */
export const WITHOUT_BPF = refusing(ENOSYS, 'all');
/** Locked down, or a policy such as SELinux's, or `kernel.unprivileged_bpf_disabled` without the right. */
export const LOCKED = refusing(EPERM, [BPF_MAP_CREATE, BPF_PROG_LOAD]);
/** Maps are given, programs are not. */
export const WITHOUT_PROGRAMS = refusing(EPERM, [BPF_PROG_LOAD]);
