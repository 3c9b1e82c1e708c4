import type { LeaseAttributes, Subnets } from './lease.js';
import type { Registry, StoredLease, WatchEvent, WatchOptions } from './registry.js';

/** A registry that is opened by its first use. */
export class OpeningRegistry implements Registry {
  readonly #name: string;
  readonly #open: () => Promise<Registry>;
  #opening: Promise<Registry> | null = null;
  #registry: Registry | null = null;

  /** @param name what it is called until it is open */
  constructor(name: string, open: () => Promise<Registry>) {
    this.#name = name;
    this.#open = open;
  }

  get description(): string {
    return this.#registry?.description ?? this.#name;
  }

  async getConfig() {
    return (await this.#ready()).getConfig();
  }

  async setConfig(json: string, expected: string | null) {
    return (await this.#ready()).setConfig(json, expected);
  }

  async watchConfig(options: WatchOptions<string | null>) {
    return (await this.#ready()).watchConfig(options);
  }

  async list(options?: { readonly expirations?: boolean }) {
    return (await this.#ready()).list(options);
  }

  async create(subnets: Subnets, attributes: LeaseAttributes, ttlSeconds: number) {
    return (await this.#ready()).create(subnets, attributes, ttlSeconds);
  }

  async renew(lease: StoredLease, attributes: LeaseAttributes, ttlSeconds: number) {
    return (await this.#ready()).renew(lease, attributes, ttlSeconds);
  }

  async remove(lease: StoredLease) {
    return (await this.#ready()).remove(lease);
  }

  async watch(options: WatchOptions<WatchEvent>) {
    return (await this.#ready()).watch(options);
  }

  /** One that nobody used is not opened for this. */
  async close(): Promise<void> {
    await this.#opening?.then(
      (registry) => registry.close(),
      () => {}, // whoever used it knows
    );
  }

  #ready(): Promise<Registry> {
    this.#opening ??= this.#open().then((registry) => {
      this.#registry = registry;
      return registry;
    });
    return this.#opening;
  }
}
