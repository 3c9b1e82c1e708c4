import { readFileSync } from 'node:fs';
import {
  EtcdAuthenticationFailedError,
  EtcdPermissionDeniedError,
  GRPCDeadlineExceededError,
  GRPCUnauthenticatedError,
} from 'etcd3';
import { messageOf, TweedError } from '../../base/errors.js';
import type { Logger } from '../../base/log.js';
import { RegistryDeniedError, RegistryError } from '../errors.js';
import {
  type Credentials,
  type EtcdClients,
  EtcdEndpoint,
  isOutOfResources,
  isTransient,
  type WatchStream,
} from './etcd-endpoint.js';
import { grpcLogsTo } from './grpc-log.js';
import { systemAuthorities } from './system-authorities.js';

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

const DEFAULT_CALL_TIMEOUT_MS = 5_000;

/** Connections to one etcd cluster: one member at a time, the next one when the present one fails. */
export class EtcdConnection {
  readonly description: string;
  readonly #options: EtcdOptions;
  readonly #urls: readonly string[];
  readonly #endpoints: (EtcdEndpoint | undefined)[] = [];
  #current = 0;
  #credentials: Credentials | null = null;
  #closed = false;

  /** @throws TweedError when the options contradict each other. */
  constructor(options: EtcdOptions, log: Logger) {
    this.#options = options;
    checkOptions(options);
    grpcLogsTo(log);
    const hasTlsFiles = options.caFile !== undefined || options.certFile !== undefined;
    const usesTls = hasTlsFiles || options.endpoints.some((endpoint) => endpoint.startsWith('https://'));
    this.#urls = options.endpoints.map((endpoint) => normalize(endpoint, usesTls));
    this.description = `etcd at ${this.#urls.join(', ')}`;
    if (hasTlsFiles && options.endpoints.some((endpoint) => endpoint.startsWith('http://'))) {
      log.warn({ endpoints: this.#urls }, 'TLS files are given, so http:// endpoints are spoken to over TLS as well');
    }
  }

  /**
   * Makes requests at the present endpoint, and at the next ones when it fails. The whole of `work` is repeated then, so it
   * must cope with an earlier try that was carried out although its answer was lost.
   *
   * @throws RegistryError
   */
  async request<T>(work: (clients: EtcdClients) => Promise<T>): Promise<T> {
    let failure: unknown;
    for (let tries = 0; tries < this.#urls.length; tries++) {
      const endpoint = this.#endpoint();
      try {
        return await work(endpoint.clients);
      } catch (error) {
        if (error instanceof TweedError) throw error;
        failure = error;
        if (!isTransient(error)) break;
        this.#moveOn(endpoint);
      }
    }
    throw this.#translate(failure);
  }

  /** Opens a stream for watches. Whatever ends it must be passed through `failed`. */
  async openWatch(): Promise<{ stream: WatchStream; failed: (error: unknown) => RegistryError }> {
    const endpoint = this.#endpoint();
    const failed = (error: unknown) => {
      if (isTransient(error)) this.#moveOn(endpoint);
      return this.#translate(error);
    };
    try {
      return { stream: await endpoint.openWatch(), failed };
    } catch (error) {
      throw failed(error);
    }
  }

  close(): void {
    this.#closed = true;
    this.#closeEndpoints();
  }

  #endpoint(): EtcdEndpoint {
    if (this.#closed) throw new RegistryError(`${this.description}: the connection was closed; open another`);
    const present = this.#endpoints[this.#current];
    if (present !== undefined) return present;
    const { username, password = '', callTimeoutMs = DEFAULT_CALL_TIMEOUT_MS } = this.#options;
    this.#credentials ??= this.#readCredentials();
    const url = this.#urls[this.#current] as string;
    const endpoint = new EtcdEndpoint({ url, credentials: this.#credentials, username, password, callTimeoutMs });
    this.#endpoints[this.#current] = endpoint;
    return endpoint;
  }

  /** The next request goes to another endpoint; with replaced TLS files, over a new connection. */
  #moveOn(failed: EtcdEndpoint): void {
    if (this.#endpoints[this.#current] !== failed) return; // somebody else has moved on already
    this.#current = (this.#current + 1) % this.#urls.length;
    if (this.#credentials !== null && this.#tlsFilesChanged(this.#credentials)) {
      this.#closeEndpoints();
      this.#credentials = null;
    }
  }

  #closeEndpoints(): void {
    for (const endpoint of this.#endpoints.splice(0)) endpoint?.close();
  }

  #tlsFilesChanged(before: Credentials): boolean {
    try {
      const now = this.#readCredentials();
      const names = ['rootCertificate', 'privateKey', 'certChain'] as const;
      return names.some((name) => Buffer.compare(now?.[name] ?? Buffer.of(), before[name] ?? Buffer.of()) !== 0);
    } catch {
      return false; // being replaced at this moment; the next failure looks again
    }
  }

  #readCredentials(): Credentials | null {
    if (!this.#urls.some((url) => url.startsWith('https://'))) return null;
    const { caFile, certFile, keyFile } = this.#options;
    return {
      // gRPC takes null for the authorities that Node brings along; etcd3's type does not know that.
      rootCertificate: caFile === undefined ? (systemAuthorities() as Buffer) : readTlsFile(caFile),
      ...(keyFile === undefined || certFile === undefined
        ? {}
        : { privateKey: readTlsFile(keyFile), certChain: readTlsFile(certFile) }),
    };
  }

  #translate(error: unknown): RegistryError {
    if (error instanceof RegistryError) return error;
    // The texts of timeouts hold measured times, which would make every one of them look like news in the log.
    const detail =
      error instanceof GRPCDeadlineExceededError
        ? `no answer within ${this.#options.callTimeoutMs ?? DEFAULT_CALL_TIMEOUT_MS} ms`
        : tidy(messageOf(error));
    if (isRefusal(error)) {
      return new RegistryDeniedError(
        `${this.description} refused: ${detail}; check the user name, the password and the user’s permissions`,
        { cause: error },
      );
    }
    if (isOutOfResources(error)) {
      return new RegistryError(
        `${this.description} refused: ${detail}; where its space is exceeded, compact and defragment it, then "etcdctl alarm disarm"`,
        { cause: error },
      );
    }
    return new RegistryError(`${this.description}: ${detail}; check that it runs and can be reached`, { cause: error });
  }
}

/** gRPC wraps the reason of a failed connection in a lot of words, and sometimes there is none in them. */
function tidy(message: string): string {
  const reason = message
    .replace(/^.*No connection established\. Last error: (Error: )?/, '')
    .replace(/\.? Resolution note:\s*$/, '')
    .replace(/^\w+Error: /, '')
    .trim();
  return /^(undefined|null)?$/.test(reason) ? 'no connection, for a reason that is not known' : reason;
}

function isRefusal(error: unknown): boolean {
  return (
    error instanceof EtcdAuthenticationFailedError ||
    error instanceof EtcdPermissionDeniedError ||
    error instanceof GRPCUnauthenticatedError ||
    messageOf(error).includes('user name is empty')
  );
}

function checkOptions(options: EtcdOptions): void {
  if (options.endpoints.length === 0) {
    throw new TweedError('ETCD_OPTIONS', 'no etcd endpoint is given; give at least one, such as http://127.0.0.1:2379');
  }
  if ((options.certFile === undefined) !== (options.keyFile === undefined)) {
    const [given, missing] = options.certFile === undefined ? ['key', 'certificate'] : ['certificate', 'key'];
    throw new TweedError('ETCD_OPTIONS', `a client ${given} file is given without its ${missing}; give both or none`);
  }
  if (options.password !== undefined && options.username === undefined) {
    throw new TweedError('ETCD_OPTIONS', 'an etcd password is given without a user name; give both or none');
  }
}

function readTlsFile(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new RegistryDeniedError(`cannot read the TLS file ${file}: ${messageOf(error)}; make it readable`);
  }
}

function normalize(endpoint: string, usesTls: boolean): string {
  const match = /^(?:(https?):\/\/)?([^/@\s]+?)\/?$/.exec(endpoint);
  const host = match?.[2];
  if (host === undefined) {
    const shown = JSON.stringify(endpoint.replace(/\/\/[^/]*@/, '//…@')); // a password may stand before the @
    throw new TweedError('ETCD_OPTIONS', `${shown} is no etcd endpoint; write http://host:port or https://host:port`);
  }
  const hasPort = /^(\[.*\]|[^:]*):\d+$/.test(host);
  return `${usesTls ? 'https' : 'http'}://${hasPort ? host : `${host}:2379`}`;
}
