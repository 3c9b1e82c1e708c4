/** What a send needs besides the send itself, when the socket does not simply take it. */
import { SOCKADDR_ADDRESS, toNetworkOrder } from '../../linux/structs.js';
import { PEER_BYTES, PEER_SOCKADDR } from '../forwarding/peer-record.js';
import type { ForwarderContext } from './context.js';
import type { ForwarderLoop } from './loop.js';
import { allowFragments, pathMtu } from './udp-socket.js';

/** Asked only after a send was refused. */
export interface Outlet {
  /** The socket's buffer is full: returns when there is room again, or when there has been none for too long. */
  awaitRoom(): void;
  /** Says whether the socket may cut datagrams that are too long for their path into fragments, instead of refusing. */
  allowFragments(allowed: boolean): void;
  /** The MTU of the path to a peer, in bytes; 0 when the kernel cannot tell. */
  pathMtu(peer: number): number;
}

/** The overlay's socket. @param loop of this thread, which does its other work while a send waits */
export function socketOutlet({ memory, options }: ForwarderContext, loop: ForwarderLoop): Outlet {
  return {
    awaitRoom: () => loop.awaitRoom(),
    allowFragments: (allowed) => allowFragments(options.socket, allowed),
    pathMtu: (peer) => {
      const word = (options.layout.peers + peer * PEER_BYTES + PEER_SOCKADDR + SOCKADDR_ADDRESS) >>> 2;
      return pathMtu(toNetworkOrder(memory.i32[word]) >>> 0, options.port);
    },
  };
}
