import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { BackendStatus } from '../../../../src/backend/backend.js';
import { unfinishedData } from '../../../../src/backend/udp/lease-data.js';
import type { KernelPathWish, UdpBackendOptions } from '../../../../src/backend/udp/options.js';
import { announcementOf } from '../../../../src/backend/wireguard/announcement.js';
import type { Family } from '../../../../src/base/address.js';
import { parseIpv4, parsePrefix } from '../../../../src/base/ipv4.js';
import { parseIpv6, parseIpv6Prefix } from '../../../../src/base/ipv6.js';
import type { Lease, PeerSet } from '../../../../src/subnet/lease.js';
import { formatKey, PrivateKey } from '../../../../src/wireguard/keys.js';
import type { Namespace } from './namespace.js';
import { ifIndex } from './sockets.js';

const program = fileURLToPath(new URL('host.mjs', import.meta.url));

export const NETWORK = '10.5.0.0/16';
/** The same of IPv6, where the overlay has both families: the packets of the unit tests are at home in it. */
export const NETWORK_V6 = 'fd00::/64';
export const PORT = 8285;

export type Offloads = UdpBackendOptions['offloads'];
export type Offload = keyof Offloads;

export const AUTO: Offloads = { tunTso: 'auto', tunUso: 'auto', udpGso: 'auto', udpGro: 'auto', udpBatch: 'auto' };
export const OFF: Offloads = { tunTso: 'off', tunUso: 'off', udpGso: 'off', udpGro: 'off', udpBatch: 'off' };

/** What a host's data path is told: the options of the `udp` backend, and whether its datagrams are sealed. */
export interface HostOptions extends UdpBackendOptions {
  /** The `wireguard` backend with its engine in this process. */
  readonly sealed: boolean;
  /**
   * The overlay has IPv4 alone when this is null; else both families, and the underlay has this one, by which all hosts are
   * known.
   */
  readonly dualOver: Family | null;
  /** How much faster than time the sessions' clock runs. */
  readonly clockSpeed: number;
}

export const OPTIONS: HostOptions = {
  sealed: false,
  dualOver: null,
  clockSpeed: 1,
  deviceName: 'flannel0',
  checkSenders: true,
  offloads: AUTO,
  forwarderThreads: 'auto',
  socketBuffer: 7_340_032,
  txQueueLength: 1000,
  kernelPath: 'off',
  kernelPathMerge: true,
};

export function address(text: string): number {
  const parsed = parseIpv4(text);
  if (parsed === null) throw new Error(`${text} is no address`);
  return parsed;
}

function network(text: string) {
  const parsed = parsePrefix(text);
  if (parsed === null) throw new Error(`${text} is no prefix`);
  return parsed;
}

export function addressV6(text: string): bigint {
  const parsed = parseIpv6(text);
  if (parsed === null) throw new Error(`${text} is no IPv6 address`);
  return parsed;
}

function networkV6(text: string) {
  const parsed = parseIpv6Prefix(text);
  if (parsed === null) throw new Error(`${text} is no IPv6 prefix`);
  return parsed;
}

/** Where a host is on the underlay. */
export interface PublicAddresses {
  readonly publicIp: number;
  readonly publicIpv6: bigint;
}

/** The private key of a host whose datagrams are sealed. */
function keyOf(number: number): PrivateKey {
  return new PrivateKey(new Uint8Array(32).fill(number));
}

/** The lease of host `number`: 10.5.NUMBER.0/24 at the underlay address given. */
export function leaseOf(number: number, publicIp: number, kernelPath: KernelPathWish = 'off', sealed = false): Lease {
  const backendData = sealed ? announcementOf(keyOf(number).publicKey, PORT) : unfinishedData;
  return {
    subnet: network(`10.5.${number}.0/24`),
    subnetV6: null,
    attributes: { publicIp, publicIpv6: null, ...((sealed || kernelPath !== 'off') && { backendData }) },
    expiresAt: null,
  };
}

/** The lease of host `number` in an overlay of both families, known by its address of one: with fd00::NUMBER:0/112 besides. */
export function dualLeaseOf(number: number, { publicIp, publicIpv6 }: PublicAddresses, over: Family): Lease {
  return {
    ...leaseOf(number, publicIp),
    subnetV6: networkV6(`fd00::${number}:0/112`),
    attributes: over === 4 ? { publicIp, publicIpv6: null } : { publicIp: 0, publicIpv6 },
  };
}

/** An error that the host's process reported, with the class and code that it had there. */
export class HostError extends Error {
  constructor(
    readonly kind: string,
    readonly code: string,
    message: string,
  ) {
    super(`${kind} (${code}): ${message}`);
  }
}

interface Reply {
  readonly id?: number;
  readonly result?: unknown;
  readonly error?: { readonly name: string; readonly code: string; readonly message: string };
  readonly failed?: string;
  readonly blocked?: true;
}

/** The process that carries a host's packets. It is started once; its backend may be started and stopped many times. */
export class HostProcess {
  readonly #namespace: Namespace;
  readonly #number: number;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #calls = 0;
  #peers: PeerSet = { leases: [], complete: true };
  #exited = false;
  #onBlocked: () => void = () => {};
  #log = '';
  /** Why forwarding failed for good; empty while it has not. */
  failure = '';

  constructor(namespace: Namespace, number: number) {
    this.#namespace = namespace;
    this.#number = number;
    this.#child = namespace.spawn(process.execPath, [program], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      serialization: 'advanced', // IPv6 addresses are bigints
    });
    this.#child.on('message', (message) => this.#take(message as Reply));
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#log += chunk.toString();
    });
    this.#child.once('exit', (status, signal) => {
      this.#exited = true;
      const error = new Error(`host ${number} ended (${signal ?? status}):\n${this.#log}`);
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    });
  }

  #take(reply: Reply): void {
    if (reply.failed !== undefined) this.failure = reply.failed;
    if (reply.blocked) this.#onBlocked();
    const waiting = this.#waiting.get(reply.id ?? 0);
    if (waiting === undefined) return;
    this.#waiting.delete(reply.id ?? 0);
    const { error } = reply;
    if (error === undefined) waiting.resolve(reply.result);
    else waiting.reject(new HostError(error.name, error.code, error.message));
  }

  #call<T>(call: string, ...args: unknown[]): Promise<T> {
    if (this.#exited) return Promise.reject(new Error(`host ${this.#number} has ended:\n${this.#log}`));
    const id = ++this.#calls;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve: (value) => resolve(value as T), reject });
      // between the end of the channel and that of the process
      this.#child.send({ id, call, args }, (error) => {
        if (error === null) return;
        this.#waiting.delete(id);
        reject(error);
      });
    });
  }

  /** Starts the backend on eth0, with the host's own subnet unless told otherwise. Returns the MTU for containers. */
  start(
    addresses: number | PublicAddresses,
    mtu: number,
    peers: readonly Lease[],
    options: Partial<HostOptions> = {},
    subnet = this.#number,
  ): Promise<number> {
    this.failure = '';
    this.#peers = { leases: peers, complete: true };
    const index = ifIndex(this.#namespace, 'eth0');
    const { sealed, clockSpeed, dualOver, ...udp } = { ...OPTIONS, ...options };
    const known = typeof addresses === 'number' ? { publicIp: addresses, publicIpv6: 0n } : addresses;
    const lease = dualOver === null ? leaseOf(subnet, known.publicIp) : dualLeaseOf(subnet, known, dualOver);
    const { publicIp, publicIpv6 } = lease.attributes;
    const ipv6Address = publicIpv6 === null ? null : { address: publicIpv6, prefixLength: 64 };
    const underlay = { name: 'eth0', index, address: publicIp, prefixLength: 24, ipv6: ipv6Address, mtu };
    const backend = sealed ? { type: 'wireguard', options: { ListenPort: PORT } } : { type: 'udp', options: {} };
    const ipv4 = { network: network(NETWORK), subnetLength: 24 };
    const ipv6 = dualOver === null ? null : { network: networkV6(NETWORK_V6), subnetLength: 112 };
    const config = { ipv4, ipv6, enableNftables: false, backend };
    const context = { underlay, publicIp, publicIpv6, config };
    const key = sealed ? formatKey(keyOf(subnet).secret.bytes) : null;
    return this.#call('start', context, udp, lease, this.#peers, key, clockSpeed);
  }

  stop(): Promise<void> {
    return this.#call('stop');
  }

  /** These are the peers from now on. @returns what else had to be mended */
  setPeers(leases: readonly Lease[], complete = true): Promise<readonly string[]> {
    this.#peers = { leases, complete };
    return this.reconcile();
  }

  /** The same peers again, as a daemon says every few seconds. @returns what else had to be mended */
  reconcile(): Promise<readonly string[]> {
    return this.#call('setPeers', this.#peers);
  }

  status(): Promise<BackendStatus> {
    return this.#call('status');
  }

  usage(): Promise<{ readonly descriptors: number; readonly residentKib: number }> {
    return this.#call('usage');
  }

  /** Keeps the control thread busy. `begun` settles when it is, `over` when it answers again. */
  block(milliseconds: number): { readonly begun: Promise<void>; readonly over: Promise<void> } {
    const begun = new Promise<void>((resolve) => {
      this.#onBlocked = resolve;
    });
    return { begun, over: this.#call('block', milliseconds) };
  }

  get log(): string {
    return this.#log;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get alive(): boolean {
    return !this.#exited;
  }

  async close(): Promise<void> {
    if (this.#exited) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await ended;
  }
}
