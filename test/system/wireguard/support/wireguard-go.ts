/** wireguard-go, an implementation that is not ours, in a namespace of its own: the other end of every interop test. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exec } from '../../../../src/base/exec.js';
import { formatKey } from '../../../../src/wireguard/keys.js';
import type { Namespace } from '../../datapath/support/namespace.js';
import { until } from '../../datapath/support/until.js';

/** Addresses inside the tunnel. */
export const THEIR_ADDRESS = '10.9.0.2';
export const OUR_ADDRESS = '10.9.0.1';
export const THEIR_PORT = 51820;

let started = 0;

export interface WireguardGoPeer {
  readonly publicKey: Uint8Array;
  readonly presharedKey?: Uint8Array;
  /** Where it sends to by itself; without one it waits. */
  readonly endpoint?: string;
  readonly persistentKeepalive?: number;
}

export class WireguardGo {
  readonly device = `twg${process.pid % 10_000}x${started++}`;
  readonly log: string[] = [];
  readonly #namespace: Namespace;
  readonly #folder = mkdtempSync(join(tmpdir(), 'tweed-wireguard-'));
  #keys = 0;
  #process: ChildProcess | undefined;

  constructor(namespace: Namespace) {
    this.#namespace = namespace;
  }

  get socket(): string {
    return `/var/run/wireguard/${this.device}.sock`;
  }

  async start(privateKey: Uint8Array, peer: WireguardGoPeer): Promise<void> {
    const child = this.#namespace.spawn('wireguard-go', ['-f', this.device], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LOG_LEVEL: 'verbose' },
    });
    this.#process = child;
    let missing: Error | undefined;
    child.once('error', (error) => {
      missing = error;
    });
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (text) => this.log.push(String(text)));
    await until('wireguard-go to listen', () => {
      if (missing !== undefined) throw new Error(`${missing.message}; install wireguard-go and wireguard-tools`);
      if (child.exitCode !== null) throw new Error(`wireguard-go ended: ${this.log.join('')}`);
      return existsSync(this.socket);
    });
    await this.set('listen-port', String(THEIR_PORT), 'private-key', this.#keyFile(privateKey));
    await this.setPeer(peer);
    await this.#namespace.ip(
      `addr add ${THEIR_ADDRESS}/32 dev ${this.device}`,
      `link set ${this.device} mtu 1420 up`,
      `route add ${OUR_ADDRESS}/32 dev ${this.device}`,
    );
  }

  /** `wg set`. */
  async set(...words: string[]): Promise<void> {
    await exec(['wg', 'set', this.device, ...words]);
  }

  async setPeer({ publicKey, presharedKey, endpoint, persistentKeepalive }: WireguardGoPeer): Promise<void> {
    const words = ['peer', formatKey(publicKey), 'allowed-ips', `${OUR_ADDRESS}/32`];
    if (endpoint !== undefined) words.push('endpoint', endpoint);
    words.push('persistent-keepalive', persistentKeepalive === undefined ? 'off' : String(persistentKeepalive));
    await this.set(...words, 'preshared-key', this.#keyFile(presharedKey ?? new Uint8Array(32)));
  }

  /** `wg` reads keys from files only, and not from the sockets that Node makes pipes of. */
  #keyFile(key: Uint8Array): string {
    const file = join(this.#folder, `key${this.#keys++}`);
    writeFileSync(file, formatKey(key), { mode: 0o600 });
    return file;
  }

  async show(): Promise<string> {
    return (await exec(['wg', 'show', this.device, 'dump'])).stdout;
  }

  async stop(): Promise<void> {
    const child = this.#process;
    if (child?.pid !== undefined && child.exitCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    }
    rmSync(this.socket, { force: true });
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
