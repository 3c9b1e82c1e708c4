import type { BackendStatus } from '../../src/backend/backend.js';
import { builtFile } from '../harness/paths.js';
import { Helper } from '../harness/process.js';
import type { Pair } from '../network/pair.js';
import type { Contender, Running } from './contender.js';

const MTU = 1472;

/** tweed as it is shipped, and with every offload turned off: one packet per system call. */
export const tweed = makeTweed('tweed', 'tweed', 'as shipped: every offload on auto; MTU 1472', 'auto');
export const tweedOff = makeTweed(
  'tweed-off',
  'tweed, offloads off',
  '--tun-tso=off --tun-uso=off --udp-gso=off --udp-gro=off --udp-batch=off: one packet per system call; MTU 1472',
  'off',
);

function makeTweed(id: string, title: string, description: string, offloads: 'auto' | 'off'): Contender {
  return {
    id,
    title,
    description,
    encrypted: false,
    mtu: MTU,
    unavailable: async () => '',
    start: (pair) => start(pair, offloads),
  };
}

async function start(pair: Pair, offloads: string): Promise<Running> {
  const hosts: Helper[] = [];
  const stop = async () => {
    await Promise.all(hosts.map((host) => host.stop()));
  };
  try {
    for (const { host, number } of pair.ends) {
      const argv = [process.execPath, builtFile('engines/tweed-host'), String(number), offloads];
      hosts.push(await Helper.start(host, argv, /^ready$/));
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    pids: hosts.map(({ pid }) => pid),
    counters: async () => sumCounters(await Promise.all(hosts.map(readStatus))),
    features: async () => {
      const { features } = await readStatus(hosts[0] as Helper);
      return Object.fromEntries(
        features.map(({ name, inForce, reason }) => [name, reason === '' ? inForce : `${inForce} (${reason})`]),
      );
    },
    stop,
  };
}

async function readStatus(host: Helper): Promise<BackendStatus> {
  const answer = host.waitFor(/^\{"type"/);
  host.write('status');
  return JSON.parse(await answer) as BackendStatus;
}

function sumCounters(hosts: readonly BackendStatus[]): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const { totals, drops } of hosts) {
    for (const [name, value] of Object.entries(totals)) sum[name] = (sum[name] ?? 0) + value;
    for (const [name, value] of Object.entries(drops)) sum[`drop_${name}`] = (sum[`drop_${name}`] ?? 0) + value;
  }
  return sum;
}
