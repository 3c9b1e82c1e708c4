import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { containerAddress } from '../../../src/lab/containers.js';
import type { DockerLab } from '../../../src/lab/docker/lab.js';
import type { Probe } from '../../../src/lab/probe/client.js';

/** The address of a container such as `host1/c1`. */
export async function addressOf(lab: DockerLab, place: string): Promise<string> {
  const [host, container] = place.split('/') as [string, string];
  return containerAddress(await lab.subnet(host), (await lab.containers(host)).indexOf(container) + 1);
}

/**
 * Pings ten times a second until one is answered, or until one is not.
 *
 * @returns milliseconds until the first ping of that outcome was sent, from the call on
 */
export async function untilPing(probe: Probe, address: string, answered: boolean): Promise<number> {
  const started = performance.now();
  const deadline = started + 60_000;
  for (;;) {
    const sent = performance.now() - started;
    const next = delay(100, null);
    const ping = probe.ask('ping', { address, timeout: 1_000 });
    const first = await Promise.race([ping, next]);
    // No answer within 100 ms is none: the hosts are on one machine.
    if ((first?.received ?? false) === answered) return sent;
    ping.catch(() => {}); // a probe that is gone is told by the next question
    if (performance.now() > deadline) throw new Error(`${address} was ${answered ? 'not ' : ''}answering for 60 s`);
    await next;
  }
}

/** Traffic between containers that a fault elsewhere must not disturb, nor one that only interrupts. */
export class Traffic {
  private constructor(
    private readonly probe: Probe,
    private readonly stream: number,
    private readonly connection: number,
  ) {}

  static async start(lab: DockerLab, from: string, to: string): Promise<Traffic> {
    const address = await addressOf(lab, to);
    const { tcp, udp } = await lab.probe(to).ports();
    const probe = lab.probe(from);
    const { stream } = await probe.ask('startStream', { address, port: udp, bytes: 200, interval: 20 });
    const { connection } = await probe.ask('openConnection', { address, port: tcp, interval: 50 });
    return new Traffic(probe, stream, connection);
  }

  /** It was not disturbed at all: every datagram came back. */
  async expectUndisturbed(): Promise<void> {
    const stream = await this.probe.ask('stopStream', { stream: this.stream, grace: 2_000 });
    expect(stream).toMatchObject({ received: stream.sent, refused: 0 });
    expect(stream.sent).toBeGreaterThan(0);
    await this.#expectConnected();
  }

  /** It may have lost datagrams, but the connection lives. */
  async expectConnected(): Promise<void> {
    await this.probe.ask('stopStream', { stream: this.stream, grace: 0 });
    await this.#expectConnected();
  }

  async #expectConnected(): Promise<void> {
    expect(await this.probe.ask('closeConnection', { connection: this.connection })).toMatchObject({ brokenBy: '' });
  }
}

/** For people: how long things took. Never compared with anything. */
export function report(what: string, milliseconds: number): void {
  process.stdout.write(`    ${what}: ${(milliseconds / 1000).toFixed(1)} s\n`);
}
