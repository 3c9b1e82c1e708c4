import { POLLOUT } from './constants.js';
import { control } from './libc.js';
import { POLLFD_BYTES, POLLFD_EVENTS } from './structs.js';

/** Would a write of a page return at once, be it with an error? For a descriptor that others share, and that so stays blocking. */
export function hasRoom(fd: number, calls: Pick<typeof control, 'poll'> = control): boolean {
  const pollfd = new Uint8Array(POLLFD_BYTES);
  const view = new DataView(pollfd.buffer);
  view.setInt32(0, fd, true);
  view.setInt16(POLLFD_EVENTS, POLLOUT, true);
  return calls.poll(pollfd, 1, 0) !== 0;
}
