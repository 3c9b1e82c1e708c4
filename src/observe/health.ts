import type http from 'node:http';
import { messageOf } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { unforeseen } from '../base/unforeseen.js';
import { closeGuestServer, guestServer } from './guests.js';
import { Metrics } from './metrics.js';
import type { StatusSource } from './status.js';

export interface HealthServer {
  /** The port it listens on, for tests that let the kernel choose. */
  readonly port: number;
  close(): Promise<void>;
}

/**
 * `GET /healthz` and `GET /readyz` with flannel's answers, and `GET /metrics`.
 *
 * A port that cannot be had is tried again every few seconds: it is worth less than the overlay, which goes on.
 */
export function startHealthServer(
  address: string,
  port: number,
  status: StatusSource,
  log: Logger,
  retryMs = 5000,
): HealthServer {
  const metrics = new Metrics(status);
  const answer: http.RequestListener = (request, response) => {
    const path = request.url?.replace(/\?.*$/, '');
    if (request.method !== 'GET' && request.method !== 'HEAD') response.writeHead(405).end();
    else if (path === '/healthz') plain(response, 200, 'flanneld is running');
    else if (path === '/readyz') {
      if (status().ready) plain(response, 200, 'flanneld is ready');
      else plain(response, 503, 'flanneld is not ready yet');
    } else if (path === '/metrics') {
      metrics.render().then(
        (text) => response.writeHead(200, { 'content-type': metrics.contentType }).end(text),
        (error: unknown) => {
          unforeseen.note('rendering the metrics', error);
          plain(response, 500, messageOf(error));
        },
      );
    } else plain(response, 404, 'there are /healthz, /readyz and /metrics');
  };
  const server = guestServer((request, response) => {
    if (
      !unforeseen.guard('answering at the health port', () => {
        answer(request, response);
        return true;
      })
    )
      response.destroy();
  });
  let retry: NodeJS.Timeout | undefined;
  const listen = () => server.listen(port, address);
  server.on('listening', () => log.info({ address: server.address() }, 'health and metrics server listens'));
  server.on('error', (error) => {
    log.warn({ reason: messageOf(error), address, port }, 'health and metrics server failed; trying again');
    if (!server.listening) {
      retry = setTimeout(listen, retryMs);
      retry.unref();
    }
  });
  listen();
  server.unref();
  return {
    get port() {
      const bound = server.address();
      return typeof bound === 'object' && bound !== null ? bound.port : 0;
    },
    close: () => {
      clearTimeout(retry);
      return closeGuestServer(server);
    },
  };
}

function plain(response: http.ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(text);
}
