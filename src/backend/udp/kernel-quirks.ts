import { MAX_SEGMENTS, MAX_SEGMENTS_BEFORE_6_9 } from '../../encap/datapath/datagram-batch.js';

/** A kernel release as numbers, [6, 18, 44] for `6.18.44-custom`; missing parts are 0. */
export function parseRelease(release: string): readonly [number, number, number] {
  const [, major = '0', minor = '0', patch = '0'] = /^(\d+)(?:\.(\d+))?(?:\.(\d+))?/.exec(release) ?? [];
  return [Number(major), Number(minor), Number(patch)];
}

/** Is `release` older than major.minor.patch? */
function before(release: readonly [number, number, number], major: number, minor: number, patch = 0): boolean {
  const [a, b, c] = release;
  return a !== major ? a < major : b !== minor ? b < minor : c < patch;
}

/** How many datagrams one segmented send may hold: UDP_MAX_SEGMENTS went from 64 to 128 in Linux 6.9. */
export function maxSegments(release: string): number {
  return before(parseRelease(release), 6, 9) ? MAX_SEGMENTS_BEFORE_6_9 : MAX_SEGMENTS;
}

/**
 * Linux 7.0 to 7.1.4 can send a wrong UDP header when all segments of a send are equal, and no probe can see it: the
 * reason to leave segmented sends off there unless they are demanded. Empty on every other kernel.
 */
export function segmentedSendDoubt(release: string): string {
  const version = parseRelease(release);
  return !before(version, 7, 0) && before(version, 7, 1, 5)
    ? `Linux ${release} may corrupt segmented sends (fixed in 7.1.5)`
    : '';
}
