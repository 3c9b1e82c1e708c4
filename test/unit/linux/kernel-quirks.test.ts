import { describe, expect, it } from 'vitest';
import {
  kernelQuirks,
  kernelRelease,
  parseRelease,
  quirksOf,
  stableRelease,
} from '../../../src/linux/kernel-quirks.js';

describe('parseRelease', () => {
  it.each([
    ['6.18.44-custom', [6, 18, 44]],
    ['5.15.0-91-generic', [5, 15, 0]],
    ['6.12', [6, 12, 0]],
    ['7', [7, 0, 0]],
    ['6.1.0-18-cloud-amd64', [6, 1, 0]],
    ['5.14.0-427.el9.x86_64', [5, 14, 0]],
    ['6.6.87.2-microsoft-standard-WSL2', [6, 6, 87]],
    ['10.20.30', [10, 20, 30]],
    ['', [0, 0, 0]],
    ['Linux', [0, 0, 0]],
  ])('reads %j', (release, expected) => {
    expect(parseRelease(release)).toEqual(expected);
  });
});

describe('the stable release behind the names of a kernel', () => {
  const names = (release: string, version = '#1 SMP', signature = '') => stableRelease({ release, version, signature });

  it.each([
    ['6.1.0-56-cloud-amd64', '#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-1 (2026-05-01)', '', '6.1.192'],
    ['6.12.9+bpo-amd64', '#1 SMP PREEMPT_DYNAMIC Debian 6.12.9-1~bpo12+1 (2025-01-19)', '', '6.12.9'],
    ['6.12.48+deb13-amd64', '#1 SMP PREEMPT_DYNAMIC Debian 6.12.48-1 (2025-09-20)', '', '6.12.48'],
    [
      '5.15.0-91-generic',
      '#101-Ubuntu SMP Tue Nov 14 13:30:08 UTC 2023',
      'Ubuntu 5.15.0-91.101-generic 5.15.131\n',
      '5.15.131',
    ],
    ['6.8.12-4-pve', '#1 SMP PREEMPT_DYNAMIC PMX 6.8.12-4 (2024-11-06T15:04Z)', '', '6.8.12-4-pve'],
    ['5.14.0-427.el9.x86_64', '#1 SMP PREEMPT_DYNAMIC Fri Feb 23 04:45:07 EST 2024', '', '5.14.0-427.el9.x86_64'],
    ['6.18.44-custom', '#1 SMP', '', '6.18.44-custom'],
  ])('%s, %s, %j: %s', (release, version, signature, expected) => {
    expect(names(release, version, signature)).toBe(expected);
  });

  it('is never of another branch than the name', () => {
    expect(names('6.6.0-custom', '#1 SMP built on Debian 12.4.0', '')).toBe('6.6.0-custom');
    expect(names('6.6.0', '#1', 'Ubuntu 6.60.0-1-generic 6.60.1')).toBe('6.6.0');
  });

  it('is found on the kernel that runs', () => {
    expect(parseRelease(kernelRelease())[0]).toBeGreaterThan(2);
  });
});

describe('the table of quirks', () => {
  it.each([
    ['6.18.44', []],
    ['7.0.0-rc1', ['udp_gso_equal_segments']],
    ['7.1.4', ['udp_gso_equal_segments']],
    ['7.1.5', []],
    ['6.1.192', ['tun_without_uso', 'udp_gso_64_segments']],
    ['6.2.0', ['udp_gso_64_segments']],
    ['6.6.43', ['udp_gso_64_segments']],
    ['6.6.44', ['udp_gso_64_segments', 'tun_merged_short_tail']],
    ['6.6.46', ['udp_gso_64_segments']],
    ['6.10.3', ['tun_merged_short_tail']],
    ['6.10.5', []],
  ])('of Linux %s: %j', (release, expected) => {
    expect(quirksOf(release).map(({ name }) => name)).toEqual(expected);
  });

  it('has each name once, and no empty range', () => {
    expect(new Set(kernelQuirks.map(({ name }) => name)).size).toBe(kernelQuirks.length);
    for (const { ranges } of kernelQuirks) {
      for (const { from, until } of ranges) {
        expect(
          from.map((part) => String(part).padStart(5)).join() < until.map((part) => String(part).padStart(5)).join(),
        ).toBe(true);
      }
    }
  });
});
