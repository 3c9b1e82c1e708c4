/** What the daemon's HTTP servers have in common: guests that cost little, whoever they are and however many. */
import http from 'node:http';
import type net from 'node:net';
import { messageOf } from '../base/errors.js';

/** Connections that a server keeps. More than all who may ask at a time; few beside the descriptors of the overlay. */
export const GUEST_LIMIT = 16;
/** A guest that says or takes nothing for so long is sent away. */
const SILENCE_MS = 10_000;
/** For a whole request. */
const REQUEST_MS = 5_000;

/**
 * An HTTP server that holds few connections, none of them for long, and takes small requests without a hurry.
 *
 * A guest too many is let in, and the one that has been here longest is sent away for it: those who come and say nothing do
 * not keep out those who ask and go.
 */
export function guestServer(answer: http.RequestListener, limit = GUEST_LIMIT): http.Server {
  const server = http.createServer(
    {
      headersTimeout: REQUEST_MS,
      requestTimeout: REQUEST_MS,
      connectionsCheckingInterval: 1_000,
      keepAliveTimeout: REQUEST_MS,
      maxHeaderSize: 8192,
    },
    (request, response) => {
      try {
        answer(request, response);
      } catch (error) {
        response.writeHead(500, { 'content-type': 'text/plain' }).end(`${messageOf(error)}\n`);
      }
    },
  );
  server.timeout = SILENCE_MS;
  const guests = new Set<net.Socket>();
  server.on('connection', (socket) => {
    guests.add(socket);
    socket.once('close', () => guests.delete(socket));
    for (const oldest of guests) {
      if (guests.size <= limit) break;
      guests.delete(oldest);
      oldest.destroy();
    }
  });
  return server;
}

/** Closes it, and every connection with it: nobody who stays keeps the daemon from ending. */
export function closeGuestServer(server: http.Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
