import { EtcdPermissionDeniedError, GRPCUnavailableError, type IEvent, type IWatchResponse } from 'etcd3';
import { CompactedError } from './errors.js';
import type { EtcdConnection } from './etcd-connection.js';

/** A range of keys to follow. Without `end`, the one key. */
export interface WatchedRange {
  readonly key: Buffer;
  readonly end?: Buffer;
}

export interface EtcdWatchOptions {
  readonly range: WatchedRange;
  /** The first revision that is wanted. */
  readonly startRevision: string;
  readonly signal: AbortSignal;
  readonly onEstablished: () => void;
  readonly onEvents: (events: readonly IEvent[]) => void;
  /** How often the stream itself is asked for a sign of life, in milliseconds. */
  readonly probeIntervalMs: number;
}

/**
 * One watch on one stream, from its creation to its end. Nothing is resumed here: whoever watches lists again.
 *
 * A dead connection is noticed by gRPC's pings. A stream that is alive but forgotten by the server is noticed by asking for
 * progress on it: a server that has answered such a request once and then misses two in a row is given up. (Servers
 * before 3.4 never answer, and are trusted.)
 *
 * @throws CompactedError, RegistryError
 */
export async function watchEtcd(connection: EtcdConnection, options: EtcdWatchOptions): Promise<void> {
  const { range, startRevision, signal } = options;
  if (signal.aborted) return;
  const { stream, failed } = await connection.openWatch();
  let probe: NodeJS.Timeout | undefined;
  let onAbort = () => {};
  try {
    await new Promise<void>((resolve, reject) => {
      onAbort = () => resolve();
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) resolve();
      let established = false;
      let answersProbes = false;
      let unanswered = 0;
      const confirm = () => {
        if (established) return;
        established = true;
        options.onEstablished();
      };
      stream.on('data', (response: IWatchResponse) => {
        unanswered = 0;
        if (response.canceled) {
          reject(cancellation(response, startRevision));
        } else if (response.created) {
          confirm();
        } else if (response.events.length > 0) {
          options.onEvents(response.events);
        } else {
          answersProbes = true;
        }
      });
      stream.on('error', reject);
      stream.on('end', () => reject(new GRPCUnavailableError('the watch stream was closed by the server')));
      probe = setInterval(() => {
        if (!established || (answersProbes && unanswered >= 2)) {
          reject(new GRPCUnavailableError('the watch stream no longer answers'));
          return;
        }
        unanswered++;
        stream.write({ progress_request: {} });
      }, options.probeIntervalMs);
      stream.write({
        create_request: {
          key: range.key,
          ...(range.end === undefined ? {} : { range_end: range.end }),
          start_revision: startRevision,
        },
      });
    });
  } catch (error) {
    if (error instanceof CompactedError) throw error;
    throw failed(error);
  } finally {
    clearInterval(probe);
    signal.removeEventListener('abort', onAbort);
    stream.on('error', () => {}); // cancelling makes one more error, which is no news
    stream.cancel();
  }
}

function cancellation(response: IWatchResponse, startRevision: string): Error {
  if (response.compact_revision !== '0' || response.cancel_reason.includes('compacted')) {
    return new CompactedError(startRevision);
  }
  if (response.cancel_reason.includes('permission denied'))
    return new EtcdPermissionDeniedError(response.cancel_reason);
  return new GRPCUnavailableError(
    `the watch was cancelled by the server (${response.cancel_reason || 'no reason given'})`,
  );
}
