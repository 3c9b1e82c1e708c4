import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BackendStatus, FeatureStatus } from '../../src/backend/backend.js';
import { waitFor } from '../../src/lab/wait.js';
import { fetchStatus } from '../../src/operator/status-client.js';
import { project } from '../harness/paths.js';
import { Helper } from '../harness/process.js';
import { type End, NETWORK, NETWORK_V6, type Pair } from '../network/pair.js';
import type { Running } from './contender.js';

/** The devices of backends that forward in the daemon; with the others the kernel does. */
const DEVICES: Readonly<Record<string, string>> = { udp: 'flannel0', wireguard: 'flannel-wg' };

/** Starts the real daemon on both hosts and waits until each knows the other. */
export async function startDaemons(
  pair: Pair,
  backend: 'udp' | 'vxlan' | 'host-gw' | 'wireguard',
  daemonArgs: readonly string[] = [],
): Promise<Running> {
  const folder = await mkdtemp(join(tmpdir(), 'tweed-bench-'));
  const hosts: Helper[] = [];
  const runFolders: string[] = [];
  const stop = async () => {
    await Promise.all(hosts.map((host) => host.stop()));
    await rm(folder, { recursive: true, force: true });
  };
  const statuses = () => Promise.all(runFolders.map(backendStatus));
  try {
    for (const { end, argv, runFolder } of await prepareDaemons(pair, backend, folder)) {
      hosts.push(await Helper.start(end.host, [...argv, ...daemonArgs], /"tweed starts"/));
      runFolders.push(runFolder);
    }
    await waitFor('both daemons to know each other', async () => {
      try {
        return (await statuses()).every(({ peers }) => peers.length === 1);
      } catch {
        return false; // not listening yet
      }
    });
  } catch (error) {
    await stop();
    throw error;
  }
  const device = DEVICES[backend];
  if (device === undefined) return { pids: [], device: null, stop };
  return {
    pids: hosts.map(({ pid }) => pid),
    device: () => device,
    counters: async () => sumCounters(await statuses()),
    features: async () => {
      const [first] = await statuses();
      return Object.fromEntries((first?.features ?? []).map(describeFeature));
    },
    stop,
  };
}

/** What it takes to run the daemon of one end. */
export interface DaemonPlan {
  readonly end: End;
  readonly argv: readonly string[];
  readonly runFolder: string;
}

/** A registry in a directory, and for each end what its daemon is to be told. @param folder that the caller removes */
export async function prepareDaemons(
  pair: Pair,
  backend: 'udp' | 'vxlan' | 'host-gw' | 'wireguard',
  folder: string,
): Promise<readonly DaemonPlan[]> {
  const registry = join(folder, 'registry');
  await mkdir(join(registry, 'subnets'), { recursive: true });
  const { inner, underlay } = pair.families;
  // a host of a network of IPv4 alone does not look for an IPv6 address
  const network = {
    ...(inner === 4 ? { Network: NETWORK } : { EnableIPv4: false }),
    ...((inner === 6 || underlay === 6) && { EnableIPv6: true, IPv6Network: NETWORK_V6 }),
  };
  await writeFile(join(registry, 'config'), JSON.stringify({ ...network, Backend: { Type: backend } }));
  const plans: DaemonPlan[] = [];
  for (const end of pair.ends) {
    const runFolder = join(folder, `host${end.number}`);
    await mkdir(runFolder);
    const subnetFile = join(runFolder, 'subnet.env');
    // a daemon asks for the subnet it had before; so both sides get the ones that the pair's containers live in
    const leased =
      inner === 4
        ? `FLANNEL_NETWORK=${NETWORK}\nFLANNEL_SUBNET=${end.gateway}/24\n`
        : `FLANNEL_IPV6_NETWORK=${NETWORK_V6}\nFLANNEL_IPV6_SUBNET=${end.gateway}/64\n`;
    await writeFile(subnetFile, leased);
    // nobody who is compared has firewall rules
    const argv = [process.execPath, join(project, 'dist/cli/tweed.cjs'), 'run', '--iface=eth0'];
    argv.push(
      '--iptables-forward-rules=false',
      `--etcd-endpoints=file://${registry}`,
      `--run-dir=${runFolder}`,
      `--subnet-file=${subnetFile}`,
      // both hosts see the same files
      `--wireguard-key-file=${runFolder}/wgkey`,
      `--wireguard-socket-dir=${runFolder}/wireguard`,
    );
    plans.push({ end, argv, runFolder });
  }
  return plans;
}

function describeFeature({ name, inForce, reason }: FeatureStatus): [name: string, state: string] {
  return [name, reason === '' ? inForce : `${inForce} (${reason})`];
}

async function backendStatus(runFolder: string): Promise<BackendStatus> {
  const { backend } = await fetchStatus(runFolder);
  if (backend === null) throw new Error('the daemon has no backend yet');
  return backend;
}

function sumCounters(hosts: readonly BackendStatus[]): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const { totals, drops } of hosts) {
    for (const [name, value] of Object.entries(totals)) sum[name] = (sum[name] ?? 0) + value;
    for (const [name, value] of Object.entries(drops)) sum[`drop_${name}`] = (sum[`drop_${name}`] ?? 0) + value;
  }
  return sum;
}
