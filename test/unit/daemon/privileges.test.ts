import { describe, expect, it } from 'vitest';
import { readRunRequest } from '../../../src/cli/options.js';
import { needsOf } from '../../../src/daemon/privileges.js';

describe('what the options need beyond the usual privileges', () => {
  const also = (release: string, ...argv: string[]) => needsOf(readRunRequest(argv, {}).options, release).also;

  it('is nothing without a kernel path', () => {
    expect(also('6.18.44')).toEqual([]);
    expect(also('5.4.0', '-kernel-path=off')).toEqual([]);
  });

  it.each([
    ['7.0.1', ['BPF', 'PERFMON']],
    ['6.6.0', ['BPF', 'PERFMON']],
    ['6.5.13', ['BPF', 'PERFMON', 'SYS_ADMIN']],
    ['5.4.0', ['BPF', 'PERFMON', 'SYS_ADMIN']],
  ])('is that of bpf(2) with one; of mounts, too, where %s attaches programs by a path', (release, expected) => {
    for (const wish of ['direct', 'auto']) expect(also(release, `-kernel-path=${wish}`)).toEqual(expected);
    expect(also(release, '-kernel-path=route')).toEqual(expected.filter((name) => name !== 'PERFMON'));
  });
});
