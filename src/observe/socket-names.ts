import fs from 'node:fs';
import path from 'node:path';

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

/**
 * The status sockets that there are in a run directory, and the first one in any case: that it is not there is what a caller wants
 * to be told. Read in one go, since Node's other way costs a short-lived command more than the whole question.
 */
export function socketsIn(directory: string): readonly string[] {
  let present: readonly string[] = [];
  try {
    present = fs.readdirSync(directory);
  } catch {
    // then there is no socket either
  }
  return socketNames
    .filter((name) => name === SOCKET_NAME || present.includes(name))
    .map((name) => path.join(directory, name));
}
