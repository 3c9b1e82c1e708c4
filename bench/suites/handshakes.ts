import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from '../../src/lab/wait.js';
import { fetchStatus } from '../../src/operator/status-client.js';
import { formatKey, PrivateKey, parseKey } from '../../src/wireguard/keys.js';
import { type DaemonPlan, prepareDaemons } from '../contenders/daemon.js';
import { tweedWireguard } from '../contenders/tweed.js';
import { writeLeases } from '../handshakes/peers.js';
import { builtFile } from '../harness/paths.js';
import { Helper } from '../harness/process.js';
import type { Metric } from '../harness/results.js';
import { iperfTcp } from '../network/iperf.js';
import { Pair } from '../network/pair.js';
import type { FirstResult, FloodResult } from '../tools/handshakes.js';
import type { Measurement, Settings, Suite, SuitePlan } from './suite.js';

const SUITE = 'handshakes';
const ID = 'handshakes';
const PORT = 51_820;
/** Enough that none of them begins one more often than the protocol allows, which is 50 times a second. */
const PEERS = 90;
/** A second: the rate at which the stream is to keep most of its own, and the highest at which the host asks for no cookies. */
const OFFERED = [520, 900] as const;
const FIRST_PACKETS = 20;
/** The flood outlasts the stream. */
const MARGIN_SECONDS = 1;
const PATIENCE_MS = 60_000;

const ANSWERED: Metric = { id: 'perSecond', title: 'answered', unit: '1/s', better: 'more', digits: 0 };
const KEPT: Metric = { id: 'kept', title: 'rate of the stream', unit: '% of alone', better: 'more', digits: 0 };
const FIRST: Metric = { id: 'ms', title: 'median', unit: 'ms', better: 'less', digits: 2 };

interface Place {
  readonly pair: Pair;
  readonly peers: Helper;
}

/** What sessions cost: how many handshakes a host answers beside its traffic, and how long the first packet takes. */
export const handshakesSuite: Suite<Place> = {
  id: SUITE,
  title: 'WireGuard handshakes with the user engine',
  ownContenders: true,
  plans,
  async open({ progress, defer }) {
    progress.step('setting up the handshakes suite');
    const pair = await Pair.up(ID, tweedWireguard.mtu);
    defer(() => pair.down());
    const folder = await mkdtemp(join(tmpdir(), 'tweed-bench-'));
    defer(() => rm(folder, { recursive: true, force: true }));
    const [near, far] = (await prepareDaemons(pair, 'wireguard', folder)) as [DaemonPlan, DaemonPlan];
    for (const { end, argv } of [near, far]) {
      const daemon = await Helper.start(end.host, [...argv, '--wireguard-engine=user'], /"forwarding"/);
      defer(() => daemon.stop());
    }
    const server = await Helper.start(far.end.container, ['iperf3', '-s', '--forceflush'], /listening/);
    defer(() => server.stop());
    await knows(near, 1);
    const words = [String(PEERS), far.end.address, String(PORT), await publicKeyOf(far), far.end.containerAddress];
    const peers = await Helper.start(near.end.host, [process.execPath, builtFile('tools/handshakes'), ...words], null);
    defer(() => peers.stop());
    const keys = JSON.parse(await peers.waitFor(/^\[/)) as string[];
    await writeLeases(join(folder, 'registry'), keys);
    await knows(far, PEERS + 1);
    const { title, description } = tweedWireguard;
    return {
      contenders: [{ id: ID, title, description, encrypted: true, features: {}, unavailable: '' }],
      places: new Map([[ID, { pair, peers }]]),
    };
  },
};

async function publicKeyOf({ runFolder }: DaemonPlan): Promise<string> {
  const text = await readFile(join(runFolder, 'wgkey'), 'utf8');
  return formatKey(new PrivateKey(parseKey(text.trim(), 'private key')).publicKey);
}

function knows({ runFolder }: DaemonPlan, hosts: number): Promise<true> {
  return waitFor(`a daemon to know ${hosts} others`, async () => {
    const status = await fetchStatus(runFolder).catch(() => null); // not listening yet
    return status?.backend?.peers.length === hosts;
  });
}

function plans({ quick, rounds, seconds }: Settings): SuitePlan<Place>[] {
  if (quick) return [];
  return [
    {
      suite: SUITE,
      underlay: '',
      rounds,
      contenders: [ID],
      measurements: [...OFFERED.map((offered) => flood(offered, 2 * seconds)), firstPacket],
    },
  ];
}

function flood(offered: number, seconds: number): Measurement<Place> {
  const duration = seconds + MARGIN_SECONDS;
  return {
    id: `flood-${offered}`,
    title: `${offered} handshakes a second offered while one TCP stream runs`,
    seconds: 2 * seconds + duration + 2,
    metrics: [ANSWERED, KEPT],
    async run({ pair, peers }) {
      const [near, far] = pair.ends;
      const rate = async () => {
        const result = await iperfTcp(near.container, far.containerAddress, { seconds });
        return (result.bytes * 8) / result.seconds / 1e9;
      };
      const before = await rate();
      const prepared = peers.waitFor(/^"ready"$/, PATIENCE_MS);
      peers.write(`flood ${offered} ${duration}`);
      await prepared;
      const [answer, gbps] = await Promise.all([peers.waitFor(/^\{/, PATIENCE_MS), rate()]);
      const result = JSON.parse(answer) as FloodResult;
      const alone = (before + (await rate())) / 2;
      const { answered, cookies } = result;
      return {
        offered: result.offered,
        answered,
        cookies,
        perSecond: answered / result.seconds,
        gbps,
        alone,
        kept: (100 * gbps) / alone,
      };
    },
  };
}

const firstPacket: Measurement<Place> = {
  id: 'first',
  title: 'from the first message of a handshake to the answer to the first ping, idle',
  seconds: 1.5,
  metrics: [FIRST],
  async run({ peers }) {
    const answer = peers.waitFor(/^\{/, PATIENCE_MS);
    peers.write(`first ${FIRST_PACKETS}`);
    const { median, worst } = JSON.parse(await answer) as FirstResult;
    return { ms: median, worst };
  },
};
