/**
 * The status sockets in a run directory: `tweed.sock` of the first daemon, `tweed-2.sock` of the second, and so on. Which
 * daemon is behind one, its status tells.
 */

const MOST_DAEMONS = 32;

/** Of the first daemon, which on most hosts is the only one. */
export const SOCKET_NAME = 'tweed.sock';

/** In the order in which daemons take them. */
export const socketNames: readonly string[] = Array.from({ length: MOST_DAEMONS }, (_, index) =>
  index === 0 ? SOCKET_NAME : `tweed-${index + 1}.sock`,
);
