/**
 * What running kernels are known to do wrong, or less of, that matters here: one table, for the code that works around it
 * and for `tweed doctor`, which tells of it.
 *
 * A range says when a stable branch had it. Distributions carry fixes back and forth without telling, so an entry leads to
 * a default that can be overridden, or to a warning; never to a refusal.
 */

import { readFileSync } from 'node:fs';
import os from 'node:os';

/** Major, minor, patch. */
export type KernelVersion = readonly [number, number, number];

export interface KernelQuirk {
  /** Stable snake_case name. */
  readonly name: QuirkName;
  /** First release with it, and the first one without, for each branch. */
  readonly ranges: readonly { readonly from: KernelVersion; readonly until: KernelVersion }[];
  /** What the kernel does, to follow “Linux 1.2.3”. */
  readonly why: string;
  /** What tweed does about it by itself. */
  readonly follows: string;
  /** What the operator can do until a release without it; empty when nothing needs doing. */
  readonly advice: string;
  /** How a running process could find out instead; null when nothing shows it. */
  readonly probe: string | null;
}

export type QuirkName = 'tun_without_uso' | 'udp_gso_64_segments' | 'udp_gso_equal_segments' | 'tun_merged_short_tail';

export const kernelQuirks: readonly KernelQuirk[] = [
  {
    // TUN_F_USO4 and TUN_F_USO6 of linux/if_tun.h came with 6.2.
    name: 'tun_without_uso',
    ranges: [{ from: [0, 0, 0], until: [6, 2, 0] }],
    why: 'has no UDP super-packets on TUN devices',
    follows: 'tun_uso and merge_udp are off',
    advice: '',
    probe: 'TUNSETOFFLOAD fails with EINVAL',
  },
  {
    // UDP_MAX_SEGMENTS of include/linux/udp.h, 64 until 6.9, 128 since. Stable branches have got it too (6.1.192 takes 128,
    // 5.10.262 does not), and since which release is not known: 63 are always taken.
    name: 'udp_gso_64_segments',
    ranges: [{ from: [0, 0, 0], until: [6, 9, 0] }],
    why: 'takes at most 64 datagrams in one segmented send',
    follows: 'sends are no longer than that',
    advice: '',
    probe: 'a longer send fails with EINVAL',
  },
  {
    // Came with b10b446; 78effd8 and 5f17ae0 mend it. Ubuntu 26.04 and Proxmox 9 ship such kernels. A virtual machine's
    // segmented sends can be cut by the kernel below it, whose release nothing here tells (tailscale#21335 saw it from
    // guests of 6.17): there the only sign is what receivers count, which is the doctor's check of UDP checksums.
    name: 'udp_gso_equal_segments',
    ranges: [{ from: [7, 0, 0], until: [7, 1, 5] }],
    why: 'corrupts datagrams sent with UDP segmentation offload when all segments have one length',
    follows: 'udp_gso is off unless it is demanded',
    advice: 'leave --udp-gso at auto, or set it off',
    probe: null,
  },
  {
    // e269d79, mended by 89add40066f9; where the ranges of 6.6 and 6.10 end is not confirmed.
    name: 'tun_merged_short_tail',
    ranges: [
      { from: [6, 6, 44], until: [6, 6, 46] },
      { from: [6, 10, 3], until: [6, 10, 5] },
    ],
    why: 'refuses merged packets with a short tail on a TUN device (a regression of that stable release)',
    follows: 'a packet written at the start finds it out, and merging is off',
    advice: 'tweed run --tun-tso=off',
    probe: 'the write fails with EINVAL',
  },
];

/** The release with what it does, such as “Linux 6.1.192 has no …”, when the kernel has this quirk; else empty. */
export function describeQuirk(release: string, name: QuirkName): string {
  const quirk = quirkOf(release, name);
  return quirk === undefined ? '' : `Linux ${release} ${quirk.why}`;
}

/** Those that a kernel has. @param release as `kernelRelease` tells it */
export function quirksOf(release: string): readonly KernelQuirk[] {
  const version = parseRelease(release);
  return kernelQuirks.filter(({ ranges }) =>
    ranges.some(({ from, until }) => compareVersions(from, version) <= 0 && compareVersions(version, until) < 0),
  );
}

/** The entry when the kernel has this quirk, else undefined. */
export function quirkOf(release: string, name: QuirkName): KernelQuirk | undefined {
  return quirksOf(release).find((quirk) => quirk.name === name);
}

/** `[6, 18, 44]` for `6.18.44-custom`; missing parts are 0, and so is everything of a text that begins with no number. */
export function parseRelease(release: string): KernelVersion {
  const [, major = '0', minor = '0', patch = '0'] = /^(\d+)(?:\.(\d+))?(?:\.(\d+))?/.exec(release) ?? [];
  return [Number(major), Number(minor), Number(patch)];
}

function compareVersions([a, b, c]: KernelVersion, [x, y, z]: KernelVersion): number {
  return a - x || b - y || c - z;
}

/** What a running kernel says of itself. */
export interface KernelNames {
  /** `uname -r`. */
  readonly release: string;
  /** `uname -v`. */
  readonly version: string;
  /** /proc/version_signature, which Ubuntu has; empty elsewhere. */
  readonly signature: string;
}

/**
 * The stable release that a kernel was made from, as text such as `6.1.192`.
 *
 * `uname -r` alone hides it where a distribution keeps the name of its interface there: Debian 12's `6.1.0-56-cloud-amd64`
 * is 6.1.192, which stands behind “Debian” in `uname -v`; Ubuntu's `5.15.0-91-generic` is the last word of its signature.
 * Without either, the release as it is.
 */
export function stableRelease({ release, version, signature }: KernelNames): string {
  const told = /^Ubuntu \S+ (\d+\.\d+\.\d+)/.exec(signature) ?? /\bDebian (\d+\.\d+\.\d+)/.exec(version);
  const [, stable = ''] = told ?? [];
  const [major, minor] = parseRelease(release);
  // Only of the same branch: what else such a text may hold is no release of this kernel.
  return stable.startsWith(`${major}.${minor}.`) ? stable : release;
}

let running: string | null = null;

/** The stable release of the kernel that this process runs on. */
export function kernelRelease(): string {
  running ??= stableRelease({ release: os.release(), version: os.version(), signature: readSignature() });
  return running;
}

function readSignature(): string {
  try {
    return readFileSync('/proc/version_signature', 'utf8');
  } catch {
    return ''; // only Ubuntu has it
  }
}
