import { messageOf } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { HealthServer } from './health.js';
import type { Setting } from './settings.js';
import type { StatusSource } from './status.js';
import type { StatusServer } from './status-server.js';

/** Where they are. */
export interface ServiceOptions {
  /** Holds the status socket. */
  readonly runDirectory: string;
  /** What `tweed config` shows. */
  readonly settings?: readonly Setting[];
  /** Port 0: no health server. */
  readonly health: { readonly address: string; readonly port: number };
}

/**
 * The ways in which the outside can look at the daemon. The overlay does not depend on any of them, and does not wait for
 * their code either: Node's HTTP server, in version 24, takes longer to load than everything that forwarding needs.
 */
export class Services {
  #starting: Promise<void> | null = null;
  #statusServer: StatusServer | null = null;
  #healthServer: HealthServer | null = null;

  constructor(
    private readonly options: ServiceOptions,
    private readonly status: StatusSource,
    private readonly log: Logger,
  ) {}

  /** Null when there is none. */
  get statusSocket(): string | null {
    return this.#statusServer?.file ?? null;
  }

  /** Once, however often it is called. */
  start(): Promise<void> {
    this.#starting ??= this.#start();
    return this.#starting;
  }

  async #start(): Promise<void> {
    const { runDirectory, health } = this.options;
    if (health.port > 0) {
      const { startHealthServer } = await import('./health.js'); // with the metrics' library: most hosts do without
      this.#healthServer = startHealthServer(health.address, health.port, this.status, this.log);
    }
    try {
      const { startStatusServer } = await import('./status-server.js');
      this.#statusServer = await startStatusServer(runDirectory, this.status, this.log, this.options.settings);
      this.log.debug({ file: this.#statusServer.file }, 'status socket is open');
    } catch (error) {
      this.log.warn(`${messageOf(error)}; going on without`);
    }
  }

  async stop(): Promise<void> {
    await this.#starting;
    await Promise.all([this.#statusServer?.close(), this.#healthServer?.close()]);
  }
}
