import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { exec } from '../../../src/base/exec.js';
import { eventually, TestHost } from './hosts.js';

const program = fileURLToPath(new URL('../support/traffic-agent.mjs', import.meta.url));

/** What an agent has said, the latest of each kind. */
interface Said {
  readonly ready?: boolean;
  readonly sent?: number;
  readonly received?: number;
  readonly longestGapMs?: number;
  readonly hash?: string;
  readonly broken?: string;
}

class Agent {
  readonly #process: ChildProcess;
  said: Said = {};

  constructor(host: TestHost, ...words: string[]) {
    const argv = ['netns', 'exec', host.namespace, process.execPath, '--no-deprecation', program, ...words];
    this.#process = spawn('ip', argv, { stdio: ['pipe', 'pipe', 'inherit'] });
    let rest = '';
    this.#process.stdout?.on('data', (chunk: Buffer) => {
      const lines = `${rest}${chunk}`.split('\n');
      rest = lines.pop() as string;
      for (const line of lines) this.said = { ...this.said, ...(JSON.parse(line) as Said) };
    });
  }

  tell(word: string): void {
    this.#process.stdin?.write(`${word}\n`);
  }

  ready(): Promise<void> {
    return eventually(() => expect(this.said.ready).toBe(true));
  }

  async end(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.stdin?.end();
    await ended;
  }
}

export interface TrafficResult {
  /** UDP packets, of both directions together. */
  readonly lost: number;
  /** The TCP stream: every byte came, or else what happened. */
  readonly streams: string;
}

/** Where one end of the traffic is. */
interface Place {
  readonly host: TestHost;
  readonly address: string;
}

/** Numbered UDP packets both ways, 1,000 a second each, and a TCP stream, between two hosts' bridges or containers. */
export class Traffic {
  private constructor(
    private readonly agents: readonly [Agent, Agent],
    private readonly containers: readonly TestHost[],
  ) {}

  /** Starts it, when the daemons are ready. The bridges stand in for containers: their addresses outlive a daemon. */
  static async between(first: TestHost, second: TestHost): Promise<Traffic> {
    const [own, peer] = await Promise.all([addBridge(first), addBridge(second)]);
    return Traffic.#begin({ host: first, address: own }, { host: second, address: peer }, []);
  }

  /** The same between a container of each, behind its bridge. */
  static async ofContainers(first: TestHost, second: TestHost): Promise<Traffic> {
    const places = await Promise.all([addContainer(first), addContainer(second)]);
    return Traffic.#begin(
      ...places,
      places.map(({ host }) => host),
    );
  }

  static async #begin(own: Place, peer: Place, containers: readonly TestHost[]): Promise<Traffic> {
    await own.host.reaches(peer.address);
    const receiver = new Agent(peer.host, peer.address, own.address, 'receive');
    await receiver.ready();
    const sender = new Agent(own.host, own.address, peer.address, 'send');
    await sender.ready();
    const traffic = new Traffic([sender, receiver], containers);
    for (const agent of traffic.agents) agent.tell('start');
    await eventually(() =>
      expect(Math.min(...traffic.agents.map(({ said }) => said.received ?? 0))).toBeGreaterThan(0),
    );
    return traffic;
  }

  /** How many UDP packets have come to each end. */
  get received(): readonly number[] {
    return this.agents.map(({ said }) => said.received ?? 0);
  }

  /** Stops it, waits until all of it has come, as far as it comes, and counts. */
  async result(): Promise<TrafficResult> {
    const [sender, receiver] = this.agents;
    for (const agent of this.agents) agent.tell('end');
    await eventually(() => expect([sender, receiver].every(({ said }) => said.hash ?? said.broken)).toBe(true));
    let lost = await this.#settledLoss();
    for (let before = Number.POSITIVE_INFINITY; lost > 0 && lost < before; ) {
      before = lost;
      lost = await this.#settledLoss();
    }
    const broken = this.agents.flatMap(({ said }) => said.broken ?? []);
    const whole = broken.length === 0 && sender.said.hash === receiver.said.hash;
    return { lost, streams: whole ? 'whole' : `broken: ${broken.join(', ') || 'other bytes than were sent'}` };
  }

  async end(): Promise<void> {
    for (const agent of this.agents) await agent.end();
    for (const container of this.containers) await container.remove();
  }

  /** After the next reports of both. */
  async #settledLoss(): Promise<number> {
    const former = this.agents.map(({ said }) => said);
    const tells = this.agents.map((agent, i) => eventually(() => expect(agent.said).not.toBe(former[i])));
    await Promise.all(tells);
    const [a, b] = this.agents.map(({ said }) => said) as [Said, Said];
    return Math.max(0, (a.sent ?? 0) - (b.received ?? 0)) + Math.max(0, (b.sent ?? 0) - (a.received ?? 0));
  }
}

async function addBridge(host: TestHost): Promise<string> {
  const address = ((await host.status()).lease?.subnet ?? '').replace(/0\/24$/, '1');
  await host.run('ip', 'link', 'add', 'bridge0', 'type', 'bridge');
  await host.run('ip', 'address', 'add', `${address}/24`, 'dev', 'bridge0');
  await host.run('ip', 'link', 'set', 'bridge0', 'up');
  return address;
}

async function addContainer(host: TestHost): Promise<Place> {
  const gateway = await addBridge(host);
  const address = gateway.replace(/1$/, '2');
  const container = new TestHost(`${host.namespace}c`, address, host.directory);
  await exec(['ip', 'netns', 'add', container.namespace]);
  const mtu = ['mtu', String((await host.status()).backend?.mtu ?? 1400)];
  const peer = ['peer', 'name', 'eth0', ...mtu, 'netns', container.namespace];
  await host.run('ip', 'link', 'add', 'vc', ...mtu, 'type', 'veth', ...peer);
  await host.run('ip', 'link', 'set', 'vc', 'master', 'bridge0', 'up');
  await host.run('sysctl', '-qw', 'net.ipv4.ip_forward=1');
  await container.run('ip', 'address', 'add', `${address}/24`, 'dev', 'eth0');
  for (const link of ['lo', 'eth0']) await container.run('ip', 'link', 'set', link, 'up');
  await container.run('ip', 'route', 'add', 'default', 'via', gateway);
  return { host: container, address };
}
