import { setTimeout as delay } from 'node:timers/promises';
import { MTU } from '../contenders/c-loop.js';
import { builtFile } from '../harness/paths.js';
import { Helper } from '../harness/process.js';
import type { Metric } from '../harness/results.js';
import { endlessTcp } from '../network/endless-tcp.js';
import { Pair } from '../network/pair.js';
import { type Replaceable, ways } from '../restart/ways.js';
import type { Received } from '../tools/numbered.js';
import type { Measurement, Settings, Suite, SuitePlan } from './suite.js';

const SUITE = 'restart';
const UDP_PORT = 7001;
/** Traffic runs so long before the program is replaced, and after the next one is there: what is lost then is seen. */
const BEFORE_MS = 1000;
const AFTER_MS = 1000;
/** Altogether: at least, and at most, when no next one comes. */
const TRAFFIC_SECONDS = 3;
const LONGEST_SECONDS = 40;
/** What is under way when the sender has ended. */
const SETTLE_MS = 300;

const LOST: Metric = { id: 'lost', title: 'packets lost', unit: 'of 1,000/s', better: 'less', digits: 0 };
const GAP: Metric = { id: 'gap', title: 'longest gap', unit: 'ms', better: 'less', digits: 0 };
const RETRANSMITS: Metric = { id: 'retransmits', title: 'sent again', unit: 'segments', better: 'less', digits: 0 };
const STALL: Metric = { id: 'stall', title: 'longest stall', unit: 's', better: 'less', digits: 1 };

interface Place {
  readonly pair: Pair;
  readonly program: Replaceable;
  readonly receiver: Helper;
}

/** What a restart and an upgrade cost the containers. */
export const restartSuite: Suite<Place> = {
  id: SUITE,
  title: 'restarts under traffic',
  ownContenders: true,
  plans,
  async open({ progress, signal, defer }) {
    const places = new Map<string, Place>();
    for (const { id, title, start } of ways) {
      if (signal.aborted) break;
      progress.step(`setting up ${title}`);
      const pair = await Pair.up(id, MTU);
      defer(() => pair.down());
      const program = await start(pair);
      defer(() => program.stop());
      const [near, far] = pair.ends;
      const words = [process.execPath, builtFile('tools/numbered'), 'receive', String(UDP_PORT)];
      const receiver = await Helper.start(far.container, words, /^ready$/);
      defer(() => receiver.stop());
      const server = await Helper.start(near.container, ['iperf3', '-s', '--forceflush'], /listening/);
      defer(() => server.stop());
      places.set(id, { pair, program, receiver });
    }
    const contenders = ways.map(({ id, title, description }) => ({
      ...{ id, title, description },
      ...{ encrypted: false, features: {}, unavailable: '' },
    }));
    return { contenders, places };
  },
};

function plans({ quick, rounds }: Settings): SuitePlan<Place>[] {
  if (quick) return [];
  return [
    {
      suite: SUITE,
      underlay: '',
      rounds: Math.min(3, rounds),
      contenders: ways.map(({ id }) => id),
      measurements: [numbered, tcp('tcp-full', 'TCP, as fast as it goes', 0), tcp('tcp-100', 'TCP, 100 Mbit/s', 1e8)],
    },
  ];
}

/** Traffic that goes on until it is told to end. */
interface Traffic<Result> {
  end(): Promise<Result>;
}

/** Replaces the program in the middle of the traffic, which goes on for as long as that takes. */
async function replaceDuring<Result>({ program }: Place, traffic: Traffic<Result>): Promise<Result> {
  const least = delay(TRAFFIC_SECONDS * 1000);
  try {
    await delay(BEFORE_MS);
    await program.replace();
    await delay(AFTER_MS);
    await least;
  } catch (error) {
    await traffic.end().catch(() => {});
    throw error;
  }
  return traffic.end();
}

const numbered: Measurement<Place> = {
  id: 'udp-1000',
  title: 'UDP, 1,000 packets a second',
  seconds: TRAFFIC_SECONDS + 0.7,
  metrics: [LOST, GAP],
  async run(place) {
    const { sent } = await replaceDuring(place, await sendNumbered(place));
    await delay(SETTLE_MS);
    const answer = place.receiver.waitFor(/^\{/);
    place.receiver.write('report');
    const { received, longestGapMs } = JSON.parse(await answer) as Received;
    return { sent, lost: sent - received, gap: longestGapMs };
  },
};

async function sendNumbered({ pair }: Place): Promise<Traffic<{ readonly sent: number }>> {
  const [near, far] = pair.ends;
  const words = ['send', far.containerAddress, String(UDP_PORT), String(LONGEST_SECONDS)];
  const argv = [process.execPath, builtFile('tools/numbered'), ...words];
  const sender = await Helper.start(near.container, argv, /^ready$/); // Node may take longer to start than we wait before
  return {
    async end() {
      try {
        const answer = sender.waitFor(/^\{/);
        sender.write('end');
        return JSON.parse(await answer) as { readonly sent: number };
      } finally {
        await sender.stop();
      }
    },
  };
}

function tcp(id: string, title: string, rate: number): Measurement<Place> {
  return {
    id,
    title,
    seconds: TRAFFIC_SECONDS + 0.7,
    metrics: [RETRANSMITS, STALL],
    async run(place) {
      const [near, far] = place.pair.ends;
      // the receiver, which sees stalls as they are, is the client
      const receiver = { namespace: far.container, seconds: LONGEST_SECONDS, rate };
      const traffic = endlessTcp(receiver, { namespace: near.container, address: near.containerAddress });
      const { retransmits, longestStall, bytes } = await replaceDuring(place, await traffic);
      return { retransmits, stall: longestStall, bytes };
    },
  };
}
