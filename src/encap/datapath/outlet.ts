/** What a send needs besides the send itself, when the socket does not simply take it. */
import type { Address } from '../../base/address.js';
import { SOCKADDR_ADDRESS, SOCKADDR_IN6_ADDRESS, toNetworkOrder } from '../../linux/structs.js';
import { PEER_BYTES, PEER_ENDPOINT_V6, PEER_SOCKADDR } from '../forwarding/peer-record.js';
import type { ForwarderContext } from './context.js';
import type { ForwarderLoop } from './loop.js';
import { allowFragments, pathMtu } from './udp-socket.js';

/** Asked only after a send was refused. */
export interface Outlet {
  /** That socket's buffer is full: returns when there is room again, or when there has been none for too long. */
  awaitRoom(socket: number): void;
  /** Says whether that socket may cut datagrams that are too long for their path into fragments, instead of refusing. */
  allowFragments(socket: number, allowed: boolean): void;
  /** The MTU of the path to a peer, in bytes; 0 when the kernel cannot tell. */
  pathMtu(peer: number): number;
}

/** The overlay's sockets. @param loop of this thread, which does its other work while a send waits */
export function socketOutlet({ memory, options }: ForwarderContext, loop: ForwarderLoop): Outlet {
  const addressOf = (peer: number): Address => {
    const record = options.layout.peers + peer * PEER_BYTES;
    const endpoint = memory.i32[(record + PEER_ENDPOINT_V6) >>> 2];
    if (endpoint === 0) {
      return toNetworkOrder(memory.i32[(record + PEER_SOCKADDR + SOCKADDR_ADDRESS) >>> 2]) >>> 0;
    }
    const at = endpoint + SOCKADDR_IN6_ADDRESS;
    return (memory.view.getBigUint64(at) << 64n) | memory.view.getBigUint64(at + 8);
  };
  return {
    awaitRoom: (socket) => loop.awaitRoom(socket),
    allowFragments: (socket, allowed) => allowFragments(socket, socket === options.socketV6 ? 6 : 4, allowed),
    pathMtu: (peer) => pathMtu(addressOf(peer), options.port),
  };
}
