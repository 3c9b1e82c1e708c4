import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Namespace } from './namespace.js';

const program = fileURLToPath(new URL('impairment-hop.mjs', import.meta.url));

/** What may become of a datagram; each meets at most one fate. `marked` is ECN's "congestion experienced", inside. */
export type Fate = 'lost' | 'repeated' | 'delayed' | 'corruptedPayload' | 'corruptedHeader' | 'marked';
export type Rates = Readonly<Record<Fate, number>>;

/** How many datagrams met which fate. */
export type Counts = Readonly<Record<Fate | 'passed', number>>;
/** The same by the protocol of the inner packet; handshakes of those that are sealed are let pass and not counted. */
export type CountsByProtocol = Readonly<Record<'icmp' | 'tcp' | 'udp' | 'sealed', Counts>>;

export const PERFECT: Rates = {
  lost: 0,
  repeated: 0,
  delayed: 0,
  corruptedPayload: 0,
  corruptedHeader: 0,
  marked: 0,
};

/**
 * A hop between two interfaces, `left` and `right`, of a namespace of its own. It sees single datagrams only where the
 * senders have segmentation and checksum offloads off.
 */
export class ImpairmentHop {
  readonly namespace = new Namespace();
  #child: ChildProcess | null = null;
  #calls = 0;

  /** To be called when both interfaces are there. */
  async start(): Promise<void> {
    const child = this.namespace.spawn(process.execPath, [program, 'left', 'right'], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#child = child;
    await once(child, 'message');
  }

  /** Sets the share of datagrams for each fate, and counts from nothing. */
  async set(rates: Rates): Promise<void> {
    await this.#ask({ rates });
  }

  /** How many datagrams have met which fate. */
  counts(): Promise<CountsByProtocol> {
    return this.#ask({});
  }

  #ask(question: { readonly rates?: Rates }): Promise<CountsByProtocol> {
    const child = this.#child;
    if (child === null) throw new Error('the hop is not started');
    const id = ++this.#calls;
    const answer = new Promise<CountsByProtocol>((resolve) => {
      child.on('message', function take(message: { readonly id: number; readonly counts: CountsByProtocol }) {
        if (message.id !== id) return;
        child.off('message', take);
        resolve(message.counts);
      });
    });
    child.send({ id, ...question });
    return answer;
  }

  async close(): Promise<void> {
    const child = this.#child;
    if (child !== null && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    }
    this.namespace.close();
  }
}
