import { EtcdPermissionDeniedError, GRPCUnavailableError, type IEvent, type IWatchResponse } from 'etcd3';
import { CompactedError, type RegistryError } from '../errors.js';
import type { WatchStream } from './etcd-endpoint.js';

/** Where streams come from. */
export interface WatchOpener {
  /** Whatever ends the stream is to be passed through `failed`. */
  openWatch(): Promise<{ stream: WatchStream; failed: (error: unknown) => RegistryError }>;
}

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
export async function watchEtcd(opener: WatchOpener, options: EtcdWatchOptions): Promise<void> {
  const { signal, probeIntervalMs } = options;
  if (signal.aborted) return;
  const { stream, failed } = await opener.openWatch();
  let probe: NodeJS.Timeout | undefined;
  let onAbort = () => {};
  try {
    await new Promise<void>((resolve, reject) => {
      onAbort = resolve;
      signal.addEventListener('abort', onAbort);
      if (signal.aborted) resolve();
      const life = new SignsOfLife();
      stream.on('data', (response) => {
        life.heard(response);
        if (signal.aborted) return;
        if (response.canceled) reject(cancellation(response, options.startRevision));
        else if (response.created) options.onEstablished();
        else if (response.events.length > 0) options.onEvents(response.events);
      });
      stream.on('error', reject);
      stream.on('end', () => reject(new GRPCUnavailableError('the watch stream was closed by the server')));
      probe = setInterval(() => {
        if (life.isDead) return reject(new GRPCUnavailableError('the watch stream no longer answers'));
        life.asked();
        stream.write({ progress_request: {} });
      }, probeIntervalMs);
      stream.write({ create_request: createRequest(options) });
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

/** What a stream's answers say about the server at its other end. */
class SignsOfLife {
  #established = false;
  #answersProbes = false;
  #unanswered = 0;

  heard(response: IWatchResponse): void {
    this.#unanswered = 0;
    if (response.created) this.#established = true;
    else if (response.events.length === 0 && !response.canceled) this.#answersProbes = true;
  }

  asked(): void {
    this.#unanswered++;
  }

  /** Judged before the next question: a watch must be confirmed within one interval. */
  get isDead(): boolean {
    return !this.#established || (this.#answersProbes && this.#unanswered >= 2);
  }
}

function createRequest({ range, startRevision }: EtcdWatchOptions) {
  return {
    key: range.key,
    ...(range.end === undefined ? {} : { range_end: range.end }),
    start_revision: startRevision,
  };
}

function cancellation({ compact_revision, cancel_reason }: IWatchResponse, startRevision: string): Error {
  if (compact_revision !== '0' || cancel_reason.includes('compacted')) return new CompactedError(startRevision);
  if (cancel_reason.includes('permission denied')) return new EtcdPermissionDeniedError(cancel_reason);
  return new GRPCUnavailableError(`the watch was cancelled by the server (${cancel_reason || 'no reason given'})`);
}
