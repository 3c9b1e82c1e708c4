import { MAX_SEGMENTS, MAX_SEGMENTS_BEFORE_6_9 } from '../../encap/datapath/datagram-batch.js';
import { describeQuirk, kernelRelease, quirkOf } from '../../linux/kernel-quirks.js';

/** How many datagrams one segmented send may hold. */
export function maxSegments(release = kernelRelease()): number {
  return quirkOf(release, 'udp_gso_64_segments') === undefined ? MAX_SEGMENTS : MAX_SEGMENTS_BEFORE_6_9;
}

/** The reason to leave segmented sends off unless they are demanded; empty on a good kernel. */
export function segmentedSendDoubt(release = kernelRelease()): string {
  return describeQuirk(release, 'udp_gso_equal_segments');
}
