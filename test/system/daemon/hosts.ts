import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, vi } from 'vitest';
import { type ExecResult, exec } from '../../../src/base/exec.js';
import { silentLogger } from '../../../src/base/log.js';
import { patient } from '../../../src/lab/patience.js';
import type { DaemonStatus } from '../../../src/observe/status.js';
import { fetchStatus } from '../../../src/operator/status-client.js';
import { openRegistry } from '../../../src/subnet/open-registry.js';
import type { Registry } from '../../../src/subnet/registry.js';

const dist = fileURLToPath(new URL('../../../dist/', import.meta.url));

export const networkConfig = '{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}}';

/** Waits for something that has to become true, a system test's patience long. */
export function eventually(check: () => void | Promise<void>): Promise<void> {
  return vi.waitFor(check, { timeout: patient(60_000), interval: 50 });
}

/** The real daemon, running on a host of the test. */
export class RunningDaemon {
  readonly #process: ChildProcess;
  readonly exited: Promise<number | null>;
  output = '';

  constructor(
    host: TestHost,
    program: readonly string[],
    args: readonly string[],
    environment: Record<string, string>,
    through: readonly string[],
  ) {
    const argv = ['netns', 'exec', host.namespace, ...through, ...program, ...args];
    this.#process = spawn('ip', argv, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...environment } });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.output += chunk;
      });
    }
    this.exited = new Promise((resolve) => this.#process.on('close', (code) => resolve(code)));
  }

  says(text: string): Promise<void> {
    return eventually(() => expect(this.output).toContain(text));
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** Ends it and waits. @returns its exit status; null when a signal ended it */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.signal(signal);
    return this.exited;
  }
}

/** A network namespace with one interface on the test's link, and a directory of its own. */
export class TestHost {
  readonly #daemons: RunningDaemon[] = [];

  constructor(
    readonly namespace: string,
    readonly address: string,
    readonly directory: string,
  ) {}

  get subnetFile(): string {
    return path.join(this.directory, 'subnet.env');
  }

  /** Runs a program on this host. */
  run(...argv: string[]): Promise<ExecResult> {
    return exec(['ip', 'netns', 'exec', this.namespace, ...argv], { tolerate: true });
  }

  /** `tweed COMMAND …` on this host; `status`, `ping` and their like find this host's daemon. */
  tweed(...args: string[]): Promise<ExecResult> {
    return this.run(...this.tweedWords(...args));
  }

  /** The words of {@link tweed}, to be run in this host's namespace. */
  tweedWords(...args: string[]): string[] {
    return ['env', `TWEED_RUN_DIR=${this.directory}`, process.execPath, path.join(dist, 'cli/tweed.cjs'), ...args];
  }

  /**
   * @param through words before the daemon's own, such as `prlimit --nofile=40`
   * @param program the words of another tweed than the one that was built here
   */
  start(
    args: readonly string[],
    {
      binary = 'tweed.cjs',
      environment = {},
      through = [] as readonly string[],
      program = [process.execPath, path.join(dist, 'cli', binary)] as readonly string[],
    } = {},
  ): RunningDaemon {
    const own = ['-run-dir', this.directory, '-subnet-file', this.subnetFile, '-iface=eth0', '-iptables-resync=1'];
    const command = binary === 'tweed.cjs' ? ['run'] : [];
    const daemon = new RunningDaemon(this, program, [...command, ...own, ...args], environment, through);
    this.#daemons.push(daemon);
    return daemon;
  }

  status(): Promise<DaemonStatus> {
    return fetchStatus(this.directory);
  }

  /** Waits until the daemon is ready and knows so many peers. */
  async ready(peers = 0): Promise<DaemonStatus> {
    let status: DaemonStatus | undefined;
    await eventually(async () => {
      status = await this.status();
      expect(status.ready && (status.backend?.peers.length ?? 0) >= peers).toBe(true);
    });
    return status as DaemonStatus;
  }

  /** Does an address answer? Asks until it does. */
  reaches(address: string): Promise<void> {
    return eventually(async () => {
      expect((await this.run('ping', '-n', '-c1', '-W1', address)).status).toBe(0);
    });
  }

  /** GET by HTTP from inside the namespace: status and body. */
  async get(url: string): Promise<[number, string]> {
    const script = `fetch('${url}').then(async (r) => console.log(JSON.stringify([r.status, await r.text()])))`;
    const { stdout, stderr } = await this.run(process.execPath, '-e', script);
    if (stdout === '') throw new Error(stderr);
    return JSON.parse(stdout) as [number, string];
  }

  async remove(): Promise<void> {
    for (const daemon of this.#daemons) await daemon.stop('SIGKILL');
    await exec(['ip', 'netns', 'del', this.namespace], { tolerate: true });
  }
}

/** Two hosts on one link, and a registry in a directory. */
export class TestNetwork {
  private constructor(
    readonly hosts: readonly [TestHost, TestHost],
    readonly registry: Registry,
    /** The argument by which daemons find the registry. */
    readonly endpoint: string,
    private readonly directory: string,
  ) {}

  static async create(config: string | null = networkConfig): Promise<TestNetwork> {
    const directory = await fs.mkdtemp(path.join(os.tmpdir(), 'tweed-system-'));
    const prefix = `twcli-${randomBytes(3).toString('hex')}`;
    const hosts: TestHost[] = [];
    for (const number of [1, 2]) {
      const home = path.join(directory, `host${number}`);
      await fs.mkdir(home);
      const host = new TestHost(`${prefix}-${number}`, `192.168.77.${number}`, home);
      await exec(['ip', 'netns', 'add', host.namespace]);
      hosts.push(host);
    }
    const [first, second] = hosts as [TestHost, TestHost];
    const peer = ['peer', 'name', 'eth0', 'netns', second.namespace];
    await exec(['ip', '-n', first.namespace, 'link', 'add', 'eth0', 'type', 'veth', ...peer]);
    for (const { namespace, address } of hosts) {
      await exec(['ip', '-n', namespace, 'address', 'add', `${address}/24`, 'dev', 'eth0']);
      for (const link of ['lo', 'eth0']) await exec(['ip', '-n', namespace, 'link', 'set', link, 'up']);
    }
    const endpoint = `file://${directory}/registry`;
    const registry = await openRegistry({ endpoints: [endpoint] }, silentLogger());
    if (config !== null) await registry.setConfig(config, null);
    return new TestNetwork([first, second], registry, `-etcd-endpoints=${endpoint}`, directory);
  }

  /** Starts a daemon on both hosts and waits until they know each other. */
  async startBoth(...args: string[]): Promise<[RunningDaemon, RunningDaemon]> {
    const daemons = this.hosts.map((host) => host.start([this.endpoint, ...args]));
    await Promise.all(this.hosts.map((host) => host.ready(1)));
    return daemons as [RunningDaemon, RunningDaemon];
  }

  async remove(): Promise<void> {
    for (const host of this.hosts) await host.remove();
    await this.registry.close();
    await fs.rm(this.directory, { recursive: true, force: true });
  }
}

/** The address that a host's own device has: the first of its subnet. */
export function deviceAddress(status: DaemonStatus): string {
  return (status.lease?.subnet ?? '').replace(/\/\d+$/, '');
}
