import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { patient } from '../../../src/lab/patience.js';

/**
 * Real etcd servers for tests: on free ports of the loopback interface, in a temporary directory, ended by process id.
 */

/** Why tests with etcd cannot run here; empty when they can. In CI they must run, so there it throws. */
export function whyNoEtcd(): string {
  try {
    execFileSync('etcd', ['--version'], { stdio: 'ignore' });
    return '';
  } catch {
    const reason = 'etcd is not installed (apt-get install etcd-server)';
    if (process.env.CI) throw new Error(`${reason}, and CI must not skip its tests`);
    return reason;
  }
}

/** Ports that were free a moment ago, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ports.push((server.address() as { port: number }).port);
  }
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

export interface EtcdOptions {
  /** More flags for the server. */
  readonly flags?: readonly string[];
  readonly scheme?: 'http' | 'https';
  /** Flags that etcdctl needs to get in. */
  readonly clientFlags?: readonly string[];
}

interface Member {
  readonly name: string;
  readonly clientUrl: string;
  readonly peerUrl: string;
}

/** One etcd server that can be killed, paused, restarted and wiped. */
export class EtcdServer {
  #process: ChildProcess | null = null;
  #output = '';

  constructor(
    readonly endpoint: string,
    private readonly directory: string,
    private readonly flags: readonly string[],
    private readonly clientFlags: readonly string[],
  ) {}

  /** Starts it without waiting for anything. */
  launch(): void {
    const child = spawn('etcd', ['--data-dir', join(this.directory, 'data'), ...this.flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const keep = (chunk: Buffer) => {
      this.#output = (this.#output + chunk.toString()).slice(-4_000);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    this.#process = child;
  }

  async start(): Promise<void> {
    this.launch();
    await this.ready();
  }

  /** Waits until it serves requests that need a leader. */
  async ready(): Promise<void> {
    const deadline = performance.now() + patient(20_000);
    while (performance.now() < deadline) {
      if (this.#process?.exitCode !== null) throw new Error(`etcd ended:\n${this.#output}`);
      try {
        this.control(['get', 'nothing', `--command-timeout=${patient(1)}s`]);
        return;
      } catch (error) {
        // With authentication on, a refusal is an answer too.
        if (/user name is empty|permission denied/.test(String(error))) return;
        await delay(100);
      }
    }
    throw new Error(`etcd at ${this.endpoint} does not answer:\n${this.#output}`);
  }

  /** Runs etcdctl against this server and returns what it prints. */
  control(args: readonly string[], flags: readonly string[] = this.clientFlags): string {
    return execFileSync('etcdctl', [`--endpoints=${this.endpoint}`, ...flags, ...args], {
      env: { ...process.env, ETCDCTL_API: '3' },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: patient(20_000),
      encoding: 'utf8',
    });
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }

  pause(): void {
    this.#process?.kill('SIGSTOP');
  }

  resume(): void {
    this.#process?.kill('SIGCONT');
  }

  /** Deletes everything it stored; only while it is not running. */
  async wipe(): Promise<void> {
    await rm(join(this.directory, 'data'), { recursive: true, force: true });
  }

  async destroy(): Promise<void> {
    await this.kill();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** A cluster of so many members, started and serving. */
export async function makeEtcdCluster(size: number, options: EtcdOptions = {}): Promise<EtcdServer[]> {
  for (let tries = 1; ; tries++) {
    const servers = await prepareCluster(size, options);
    try {
      for (const server of servers) server.launch();
      await Promise.all(servers.map((server) => server.ready()));
      return servers;
    } catch (error) {
      await Promise.all(servers.map((server) => server.destroy()));
      // Somebody else may take a port between its choice and its use.
      if (tries === 3 || !String(error).includes('address already in use')) throw error;
    }
  }
}

/** A single server; with `start` false it is left to the caller when to start it. */
export async function makeEtcd(options: EtcdOptions = {}, start = true): Promise<EtcdServer> {
  const [server] = await (start ? makeEtcdCluster(1, options) : prepareCluster(1, options));
  return server as EtcdServer;
}

async function prepareCluster(size: number, options: EtcdOptions): Promise<EtcdServer[]> {
  const scheme = options.scheme ?? 'http';
  const ports = await freePorts(size * 2);
  const members: Member[] = Array.from({ length: size }, (_, i) => ({
    name: `member${i}`,
    clientUrl: `${scheme}://127.0.0.1:${ports[i * 2]}`,
    peerUrl: `http://127.0.0.1:${ports[i * 2 + 1]}`,
  }));
  return Promise.all(
    members.map(async (member) => {
      const directory = await mkdtemp(join(tmpdir(), 'tweed-etcd-'));
      const flags = serverFlags(member, members, options);
      return new EtcdServer(member.clientUrl, directory, flags, options.clientFlags ?? []);
    }),
  );
}

function serverFlags(member: Member, members: readonly Member[], options: EtcdOptions): string[] {
  return [
    `--name=${member.name}`,
    `--listen-client-urls=${member.clientUrl}`,
    `--advertise-client-urls=${member.clientUrl}`,
    `--listen-peer-urls=${member.peerUrl}`,
    `--initial-advertise-peer-urls=${member.peerUrl}`,
    `--initial-cluster=${members.map((other) => `${other.name}=${other.peerUrl}`).join(',')}`,
    '--heartbeat-interval=50',
    '--election-timeout=500',
    '--unsafe-no-fsync',
    ...(options.flags ?? []),
  ];
}
