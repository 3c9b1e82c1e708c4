/**
 * What a host of the `udp` backend says of itself in its lease, besides its address.
 *
 * With a kernel path, a host takes packets whose checksums and segments another kernel has left undone, which a network of
 * software devices carries as they are. flanneld reads `BackendData` of `udp` leases no more than any other unknown member,
 * and writes none; so who has none is sent finished packets only.
 */
import { membersOf } from '../../base/members.js';
import type { LeaseAttributes } from '../../subnet/lease.js';

const TAKES_UNFINISHED = 'TakesUnfinished';

/** For `LeaseAttributes.backendData`. */
export const unfinishedData = { [TAKES_UNFINISHED]: true } as const;

export function takesUnfinished({ backendData }: LeaseAttributes): boolean {
  return membersOf(backendData)?.get(TAKES_UNFINISHED.toLowerCase()) === true;
}
