import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { KernelPathOptions, KernelPathStatus, PathPeer } from '../../../../src/kernel-path/kernel-path.js';
import type { KernelPeerCounters, Refusal } from '../../../../src/kernel-path/table.js';
import { address, NETWORK, PORT } from '../../datapath/support/host.js';
import type { Namespace } from '../../datapath/support/namespace.js';
import type { Host } from '../../datapath/support/site.js';
import { ifIndex } from '../../datapath/support/sockets.js';

const program = fileURLToPath(new URL('driver.mjs', import.meta.url));

export interface ContainerNote {
  readonly address: number;
  readonly ifindex: number;
  readonly bridge: number;
  readonly mac: readonly number[];
  readonly gatewayMac: readonly number[];
}

interface Counted {
  readonly totals: Readonly<Record<string, number>>;
  readonly drops: Readonly<Record<string, number>>;
  readonly pastBridge: number;
}

/** The error that the driver's process reported. */
export class DriverError extends Error {
  constructor(
    readonly code: string,
    readonly stage: string,
    message: string,
  ) {
    super(message);
  }
}

/** The kernel path of one host, in a process of its own. */
export class KernelDriver {
  readonly #host: Host;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #calls = 0;
  #log = '';

  /** @param launcher a command to start it by, such as one that takes rights away */
  constructor(host: Host, launcher: readonly string[] = []) {
    this.#host = host;
    const [command, ...args] = [...launcher, process.execPath, program];
    this.#child = host.namespace.spawn(command as string, args, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#log += chunk.toString();
    });
    this.#child.on('message', (message) => {
      const { id, result, error } = message as {
        id: number;
        result?: unknown;
        error?: { code: string; stage: string; message: string };
      };
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new DriverError(error.code, error.stage, error.message));
    });
    this.#child.once('exit', (status, signal) => {
      for (const { reject } of this.#waiting.values()) {
        reject(new Error(`the driver ended (${signal ?? status}):\n${this.#log}`));
      }
      this.#waiting.clear();
    });
  }

  #call<T>(call: string, ...args: unknown[]): Promise<T> {
    const id = ++this.#calls;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve: (value) => resolve(value as T), reject });
      this.#child.send({ id, call, args });
    });
  }

  /** Starts it between eth0 and flannel0 of its host. */
  start(options: Partial<KernelPathOptions> = {}): Promise<KernelPathStatus> {
    const { namespace, number, publicIp } = this.#host;
    const [base, length] = NETWORK.split('/') as [string, string];
    return this.#call('start', {
      underlay: { name: 'eth0', index: ifIndex(namespace, 'eth0'), address: publicIp },
      tun: { name: 'flannel0', index: ifIndex(namespace, 'flannel0') },
      network: { address: address(base), length: Number(length) },
      subnet: { address: address(`10.5.${number}.0`), length: 24 },
      port: PORT,
      mode: 'route',
      ...options,
    });
  }

  setPeers(peers: readonly PathPeer[]): Promise<readonly Refusal[]> {
    return this.#call('setPeers', peers);
  }

  setContainers(containers: readonly ContainerNote[]): Promise<readonly Refusal[]> {
    return this.#call('setContainers', containers);
  }

  /** Spares packets the host's one bridge. @returns what was put back */
  spareBridge(): Promise<readonly string[]> {
    return this.#call('keepBridges', [{ name: 'br0', index: ifIndex(this.#host.namespace, 'br0') }]);
  }

  status(): Promise<KernelPathStatus> {
    return this.#call('status');
  }

  counters(): Promise<Counted> {
    return this.#call('counters');
  }

  peers(): Promise<readonly KernelPeerCounters[]> {
    return this.#call('peers');
  }

  stop(): Promise<void> {
    return this.#call('stop');
  }

  /** Ends the process, without a word to it. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await ended;
  }
}

/** The host's one container, as the kernel path may deliver to it. */
export async function containerOf(host: Host): Promise<ContainerNote> {
  return {
    address: host.containerIp,
    ifindex: ifIndex(host.namespace, 'vc'),
    bridge: ifIndex(host.namespace, 'br0'),
    mac: await macOf(host.container, 'eth0'),
    gatewayMac: await macOf(host.namespace, 'br0'),
  };
}

async function macOf(namespace: Namespace, device: string): Promise<number[]> {
  const { stdout } = await namespace.run('ip', '-json', 'link', 'show', 'dev', device);
  const [link] = JSON.parse(stdout) as { address: string }[];
  return (link?.address ?? '').split(':').map((octet) => Number.parseInt(octet, 16));
}

/** Tells the kernel paths about the other hosts. @param kernelPath whether those have one too */
export async function introduce(
  hosts: readonly Host[],
  drivers: readonly KernelDriver[],
  pathMtu: number,
  kernelPath = true,
): Promise<void> {
  for (const [i, driver] of drivers.entries()) {
    const peers = hosts
      .filter((_, j) => j !== i)
      .map(({ number, publicIp }) => ({
        subnet: { address: address(`10.5.${number}.0`), length: 24 },
        publicIp,
        pathMtu,
        kernelPath,
      }));
    const refused = await driver.setPeers(peers);
    if (refused.length > 0) throw new Error(`refused: ${JSON.stringify(refused)}`);
  }
}
