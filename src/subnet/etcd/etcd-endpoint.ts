import {
  AuthClient,
  castGrpcError,
  EtcdInvalidAuthTokenError,
  type IAuthenticateResponse,
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

export interface EtcdClients {
  readonly kv: KVClient;
  readonly lease: LeaseClient;
}

export type WatchStream = IDuplexStream<IWatchRequest, IWatchResponse>;
export type Credentials = NonNullable<IOptions['credentials']>;

export interface EtcdEndpointOptions {
  /** With its scheme. */
  readonly url: string;
  readonly credentials: Credentials | null;
  readonly username: string | undefined;
  readonly password: string;
  readonly callTimeoutMs: number;
}

type Service = Parameters<ICallable<unknown>['exec']>[0];
type Connected = Parameters<Parameters<ICallable<unknown>['withConnection']>[1]>[0];
type Metadata = Connected['metadata'];
type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>;
type UnaryMethod = (
  payload: unknown,
  metadata: Metadata,
  options: { deadline: number },
  done: (error: Error | null, response: unknown) => void,
) => void;

/**
 * etcd3's own policies retry on random endpoints and stop asking an endpoint for five seconds after three failures. Here
 * retries are the lease manager's, so its policies only call through.
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

/**
 * One member of a cluster, with a login of our own: etcd3's makes a connection for every try to log in and closes none of
 * them, which adds up while etcd is down.
 */
export class EtcdEndpoint implements ICallable<unknown> {
  readonly callOptionsFactory = undefined;
  readonly #options: EtcdEndpointOptions;
  readonly #pool: ConnectionPool;
  #token: Promise<string> | null = null;

  constructor(options: EtcdEndpointOptions) {
    this.#options = options;
    this.#pool = new ConnectionPool({
      hosts: [options.url],
      grpcOptions: CHANNEL_OPTIONS,
      ...(options.credentials === null ? {} : { credentials: options.credentials }),
      faultHandling: { global: callThrough, host: () => callThrough },
    });
  }

  get clients(): EtcdClients {
    return { kv: new KVClient(this), lease: new LeaseClient(this) };
  }

  /** Opens a stream for watches that ends when this member loses touch with the cluster's leader. */
  openWatch(): Promise<WatchStream> {
    return new WatchClient(this).watch();
  }

  async exec<T>(service: Service, method: string, payload: unknown): Promise<T> {
    try {
      return await this.#call<T>(service, method, payload, await this.#login());
    } catch (error) {
      if (!isOutdatedLogin(error)) throw error;
      this.#token = null;
      return this.#call<T>(service, method, payload, await this.#login());
    }
  }

  async withConnection<R>(service: Service, work: (connected: Connected) => Promise<R> | R): Promise<R> {
    const token = await this.#login();
    return this.#pool.withConnection(service, ({ resource, client, metadata }) => {
      if (token !== null) metadata.set('token', token);
      metadata.set('hasleader', 'true');
      return work({ resource, client, metadata });
    });
  }

  markFailed(): void {} // whoever opened the stream hears of its failure

  close(): void {
    this.#pool.close();
  }

  #call<T>(service: Service, method: string, payload: unknown, token: string | null): Promise<T> {
    return this.#pool.withConnection(service, ({ client, metadata }) => {
      if (token !== null) metadata.set('token', token);
      const methods = client as unknown as Record<string, UnaryMethod>;
      const deadline = Date.now() + this.#options.callTimeoutMs;
      return new Promise<T>((resolve, reject) => {
        (methods[method] as UnaryMethod).call(client, payload, metadata, { deadline }, (error, response) => {
          if (error === null) resolve(response as T);
          else reject(castGrpcError(error));
        });
      });
    });
  }

  /** The token for further calls; null where no user is configured. */
  #login(): Promise<string | null> {
    const { username: name, password } = this.#options;
    if (name === undefined) return Promise.resolve(null);
    if (this.#token === null) {
      const auth = new AuthClient({
        exec: (service, method, payload) => this.#call(service, method, payload, null),
        withConnection: (service, work) => this.#pool.withConnection(service, work),
        markFailed: () => {},
        callOptionsFactory: undefined,
      });
      const token = auth.authenticate({ name, password }).then((response: IAuthenticateResponse) => response.token);
      this.#token = token;
      token.catch(() => {
        if (this.#token === token) this.#token = null;
      });
    }
    return this.#token;
  }
}

/** Worth trying at another endpoint? */
export function isTransient(error: unknown): boolean {
  return error instanceof Error && (isRecoverableError(error) || isOutdatedLogin(error));
}

function isOutdatedLogin(error: unknown): boolean {
  return (
    error instanceof EtcdInvalidAuthTokenError ||
    (error instanceof Error && error.message.includes('revision of auth store is old'))
  );
}
