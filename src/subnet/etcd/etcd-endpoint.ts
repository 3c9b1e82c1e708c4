import {
  AuthClient,
  castGrpcError,
  EtcdInvalidAuthTokenError,
  GRPCResourceExhastedError,
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

/**
 * Dead connections are noticed in 15 s. etcd refuses pings closer together than 5 s.
 *
 * What gRPC would take from its surroundings, it is not to take: a proxy from `http_proxy` and its like, settings from a
 * TXT record beside the server's name. A name is asked for again at once when its addresses stop answering.
 */
const CHANNEL_OPTIONS = {
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
  'grpc.dns_min_time_between_resolutions_ms': 2_000,
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
  /** Streams that have brought something and have not ended. */
  readonly #healthy = new Set<WatchStream>();

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
  async openWatch(): Promise<WatchStream> {
    const stream = await new WatchClient(this).watch();
    stream.on('data', () => this.#healthy.add(stream));
    stream.on('error', () => this.#healthy.delete(stream));
    stream.on('end', () => this.#healthy.delete(stream));
    return stream;
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

  /**
   * The pool closes all channels when it hears of a failure, and with them every watch. So it hears only of failures that
   * a connection can be at fault for, and only while no watch shows that ours is in order: gRPC's pings say when that
   * dies. A connection that stays silent from its first moment they do not notice.
   */
  async #call<T>(service: Service, method: string, payload: unknown, token: string | null): Promise<T> {
    const answer = await this.#pool.withConnection(service, ({ client, metadata }) => {
      if (token !== null) metadata.set('token', token);
      const methods = client as unknown as Record<string, UnaryMethod>;
      const deadline = Date.now() + this.#options.callTimeoutMs;
      return new Promise<{ error: Error } | { response: T }>((resolve, reject) => {
        (methods[method] as UnaryMethod).call(client, payload, metadata, { deadline }, (thrown, response) => {
          if (thrown === null) return resolve({ response: response as T });
          const error = castGrpcError(thrown);
          if (isTransient(error) && this.#healthy.size === 0) reject(error);
          else resolve({ error });
        });
      });
    });
    if ('error' in answer) throw answer.error;
    return answer.response;
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

/** Worth trying at another endpoint, and possibly carried out all the same? */
export function isTransient(error: unknown): boolean {
  return error instanceof Error && !isOutOfResources(error) && (isRecoverableError(error) || isOutdatedLogin(error));
}

/** etcd answered that it has no room or too much to do, as every member would. */
export function isOutOfResources(error: unknown): boolean {
  return error instanceof GRPCResourceExhastedError;
}

function isOutdatedLogin(error: unknown): boolean {
  return (
    error instanceof EtcdInvalidAuthTokenError ||
    (error instanceof Error && error.message.includes('revision of auth store is old'))
  );
}
