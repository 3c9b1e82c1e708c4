import { readFileSync } from 'node:fs';
import {
  EtcdAuthenticationFailedError,
  EtcdPermissionDeniedError,
  GRPCUnauthenticatedError,
  type ICallable,
  type IDuplexStream,
  type IOptions,
  type IWatchRequest,
  type IWatchResponse,
  isRecoverableError,
  KVClient,
  LeaseClient,
  WatchClient,
} from 'etcd3';
import { ConnectionPool } from 'etcd3/lib/connection-pool.js';
import { messageOf, TweedError } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { RegistryDeniedError, RegistryError } from './errors.js';

/** How to reach an etcd cluster. */
export interface EtcdOptions {
  /** `http://host:port`, `https://host:port` or `host:port`. Tried in order; the one that answers is kept. */
  readonly endpoints: readonly string[];
  /** Files in PEM form. Any of them turns TLS on; a key and a certificate go together. */
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly username?: string;
  readonly password?: string;
  /** Each single request may take this long. */
  readonly callTimeoutMs?: number;
}

export interface EtcdClients {
  readonly kv: KVClient;
  readonly lease: LeaseClient;
}

export type WatchStream = IDuplexStream<IWatchRequest, IWatchResponse>;

type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>;

/**
 * etcd3's own policies retry on random endpoints and stop asking an endpoint for five seconds after three failures. Here
 * the endpoint in use is kept until it fails and retries are the lease manager's, so its policies only call through.
 */
const callThrough: Policy = {
  _altReturn: undefined as never,
  onSuccess: () => ({ dispose: () => {} }),
  onFailure: () => ({ dispose: () => {} }),
  execute: async (call) => call({ signal: new AbortController().signal }),
};

/** Dead connections are noticed in 15 s. etcd refuses pings closer together than 5 s. */
const CHANNEL_OPTIONS = {
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 2_000,
  'grpc.max_receive_message_length': 64 * 1024 * 1024,
};

const DEFAULT_CALL_TIMEOUT_MS = 5_000;

/** Connections to one etcd cluster: one at a time, the next endpoint when the present one fails. */
export class EtcdConnection {
  readonly description: string;
  readonly #options: EtcdOptions;
  readonly #endpoints: readonly string[];
  readonly #usesTls: boolean;
  #current = 0;
  #pool: ConnectionPool | null = null;
  #closed = false;

  /** @throws TweedError when the options contradict each other. */
  constructor(options: EtcdOptions, log: Logger) {
    this.#options = options;
    if (options.endpoints.length === 0) {
      throw new TweedError(
        'ETCD_OPTIONS',
        'no etcd endpoint is given; give at least one, such as http://127.0.0.1:2379',
      );
    }
    if ((options.certFile === undefined) !== (options.keyFile === undefined)) {
      const [given, missing] = options.certFile === undefined ? ['key', 'certificate'] : ['certificate', 'key'];
      throw new TweedError('ETCD_OPTIONS', `a client ${given} file is given without its ${missing}; give both or none`);
    }
    if (options.password !== undefined && options.username === undefined) {
      throw new TweedError('ETCD_OPTIONS', 'an etcd password is given without a user name; give both or none');
    }
    const hasTlsFiles = options.caFile !== undefined || options.certFile !== undefined;
    this.#usesTls = hasTlsFiles || options.endpoints.some((endpoint) => endpoint.startsWith('https://'));
    this.#endpoints = options.endpoints.map((endpoint) => normalize(endpoint, this.#usesTls));
    if (hasTlsFiles && options.endpoints.some((endpoint) => endpoint.startsWith('http://'))) {
      log.warn(
        { endpoints: this.#endpoints },
        'TLS files are given, so etcd is spoken to over TLS although an endpoint says http://',
      );
    }
    this.description = `etcd at ${this.#endpoints.join(', ')}`;
  }

  /**
   * Makes requests on the present endpoint, and on the next ones when it fails. The whole of `work` is repeated then, so it
   * must cope with an earlier try that was carried out although its answer was lost.
   *
   * @throws RegistryError
   */
  async request<T>(work: (clients: EtcdClients) => Promise<T>): Promise<T> {
    let failure: unknown;
    for (let tries = 0; tries < this.#endpoints.length; tries++) {
      const pool = this.#connect();
      try {
        return await work({ kv: new KVClient(pool), lease: new LeaseClient(pool) });
      } catch (error) {
        if (error instanceof TweedError) throw error;
        failure = error;
        if (!isTransient(error)) break;
        this.#moveOn(pool);
      }
    }
    throw this.#translate(failure);
  }

  /** Opens a stream for watches that ends when its member of the cluster loses touch with the leader. */
  async openWatch(): Promise<{ stream: WatchStream; failed: (error: unknown) => RegistryError }> {
    const pool = this.#connect();
    const failed = (error: unknown) => {
      if (isTransient(error)) this.#moveOn(pool);
      return this.#translate(error);
    };
    try {
      return { stream: await new WatchClient(requiringLeader(pool)).watch(), failed };
    } catch (error) {
      throw failed(error);
    }
  }

  close(): void {
    this.#closed = true;
    this.#pool?.close();
    this.#pool = null;
  }

  #connect(): ConnectionPool {
    if (this.#closed) throw new RegistryError(`${this.description}: the connection was closed; open another`);
    if (this.#pool !== null) return this.#pool;
    const { username, password = '', callTimeoutMs = DEFAULT_CALL_TIMEOUT_MS } = this.#options;
    const deadline = () => ({ deadline: Date.now() + callTimeoutMs });
    const credentials = this.#readCredentials();
    this.#pool = new ConnectionPool({
      hosts: [this.#endpoints[this.#current] as string],
      grpcOptions: CHANNEL_OPTIONS,
      ...(credentials === null ? {} : { credentials }),
      ...(username === undefined ? {} : { auth: { username, password, callOptions: deadline } }),
      defaultCallOptions: (context) => (context.isStream ? {} : deadline()),
      faultHandling: { global: callThrough, host: () => callThrough },
    });
    return this.#pool;
  }

  /** The next connection goes to another endpoint and reads the TLS files again, which may have been replaced. */
  #moveOn(failed: ConnectionPool): void {
    if (this.#pool !== failed) return; // somebody else has moved on already
    failed.close();
    this.#pool = null;
    this.#current = (this.#current + 1) % this.#endpoints.length;
  }

  #readCredentials(): NonNullable<IOptions['credentials']> | null {
    if (!this.#usesTls) return null;
    const { caFile, certFile, keyFile } = this.#options;
    const read = (file: string) => {
      try {
        return readFileSync(file);
      } catch (error) {
        throw new RegistryDeniedError(`cannot read the TLS file ${file}: ${messageOf(error)}; make it readable`);
      }
    };
    return {
      // gRPC takes null for "the system's certificate authorities"; etcd3's type does not know that.
      rootCertificate: caFile === undefined ? (null as unknown as Buffer) : read(caFile),
      ...(keyFile === undefined || certFile === undefined
        ? {}
        : { privateKey: read(keyFile), certChain: read(certFile) }),
    };
  }

  #translate(error: unknown): RegistryError {
    if (error instanceof RegistryError) return error;
    const detail = messageOf(error);
    if (
      error instanceof EtcdAuthenticationFailedError ||
      error instanceof EtcdPermissionDeniedError ||
      error instanceof GRPCUnauthenticatedError ||
      detail.includes('user name is empty')
    ) {
      return new RegistryDeniedError(
        `${this.description} refused: ${detail}; check the user name, the password and the user’s permissions`,
        { cause: error },
      );
    }
    return new RegistryError(`${this.description}: ${detail}; check that it runs and can be reached`, { cause: error });
  }
}

/**
 * Worth another endpoint or a fresh login? An outdated token or auth revision is: the next pool logs in anew.
 */
function isTransient(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return isRecoverableError(error) || /auth token|revision of auth store/.test(error.message);
}

function normalize(endpoint: string, usesTls: boolean): string {
  const match = /^(?:(https?):\/\/)?([^/@\s]+?)\/?$/.exec(endpoint);
  const host = match?.[2];
  if (host === undefined || host === '') {
    throw new TweedError(
      'ETCD_OPTIONS',
      `${JSON.stringify(endpoint.replace(/\/\/[^/]*@/, '//…@'))} is no etcd endpoint; write http://host:port or https://host:port`,
    );
  }
  const hasPort = /^(\[.*\]|[^:]*):\d+$/.test(host);
  return `${usesTls ? 'https' : 'http'}://${hasPort ? host : `${host}:2379`}`;
}

/** etcd keeps a stream open on a member without a leader unless the request carries this header. */
function requiringLeader(pool: ConnectionPool): ICallable<unknown> {
  return {
    callOptionsFactory: pool.callOptionsFactory,
    exec: (service, method, payload, options) => pool.exec(service, method, payload, options),
    withConnection: (service, work) =>
      pool.withConnection(service, ({ resource, client, metadata }) => {
        const withLeader = metadata.clone();
        withLeader.set('hasleader', 'true');
        return work({ resource, client, metadata: withLeader });
      }),
    markFailed: () => {}, // the pool is replaced as a whole
  };
}
