/** What a place has and counts: devices, firewall rules, the kernel's counters, its daemon. Looked at before and after. */
import type { ExecResult } from '../../base/exec.js';
import { PROGRAM_LIMITS, parseJson } from '../../base/json.js';
import type { DaemonStatus } from '../../observe/status.js';

export interface Link {
  readonly index: number;
  readonly name: string;
  readonly mtu: number;
  /** The bridge that it is a port of. */
  readonly master: string | null;
  /** `veth`, `bridge`, `tun`, `vxlan`, `wireguard`, …; empty for others. */
  readonly kind: string;
  readonly up: boolean;
  /** Packets dropped either way. */
  readonly dropped: number;
}

export interface PlaceFacts {
  readonly links: ReadonlyMap<string, Link>;
  /** Packets by rule or policy, each as `iptables-save` writes it with its table in front: `nat -A POSTROUTING …`. */
  readonly rules: ReadonlyMap<string, number>;
  /** The kernel's counters of IP, UDP and TCP, such as `Ip.OutNoRoutes`. */
  readonly counters: ReadonlyMap<string, number>;
  /** Addresses of neighbours that do not answer when they are asked where they are, with the device. */
  readonly silent: ReadonlyMap<string, string>;
  /** Of a host; null where none answers, or no daemon is looked for. */
  readonly daemon: DaemonStatus | null;
}

/** Runs a program in the place. */
export type RunThere = (argv: readonly string[]) => Promise<ExecResult>;

/** @param routes does it route, so that rules and counters are worth a look? The switch does not. */
export async function gatherFacts(
  run: RunThere,
  routes: boolean,
  daemon: () => Promise<DaemonStatus | null>,
): Promise<PlaceFacts> {
  const text = async (...argv: string[]) => (await run(argv)).stdout;
  const [links, rules, rulesV6, counters, neighbours, status] = await Promise.all([
    text('ip', '-json', '-details', '-statistics', 'link', 'show'),
    routes ? text('iptables-save', '-c') : '',
    routes ? text('ip6tables-save', '-c') : '',
    routes ? text('cat', '/proc/net/snmp', '/proc/net/netstat') : '',
    routes ? text('ip', '-json', 'neighbour', 'show', 'nud', 'failed', 'nud', 'incomplete') : '',
    daemon(),
  ]);
  return {
    links: parseLinks(links),
    rules: new Map([...parseRuleCounts(rules), ...parseRuleCounts(rulesV6, 'ip6tables ')]),
    counters: parseCounters(counters),
    silent: parseNeighbours(neighbours),
    daemon: status,
  };
}

/** What `ip -json -details -statistics link show` prints. */
export function parseLinks(text: string): ReadonlyMap<string, Link> {
  type Shown = {
    ifindex: number;
    ifname: string;
    mtu: number;
    master?: string;
    flags?: string[];
    linkinfo?: { info_kind?: string };
    stats64?: { rx?: { dropped?: number }; tx?: { dropped?: number } };
  };
  const shown = text.trim() === '' ? [] : (parseJson(text, PROGRAM_LIMITS) as Shown[]);
  return new Map(
    shown.map(({ ifindex, ifname, mtu, master, flags, linkinfo, stats64 }) => [
      ifname,
      {
        ...{ index: ifindex, name: ifname, mtu, master: master ?? null, kind: linkinfo?.info_kind ?? '' },
        up: flags?.includes('UP') === true && !flags.includes('NO-CARRIER'),
        dropped: (stats64?.rx?.dropped ?? 0) + (stats64?.tx?.dropped ?? 0),
      },
    ]),
  );
}

/** What `ip -json neighbour show` prints: device by address. */
export function parseNeighbours(text: string): ReadonlyMap<string, string> {
  const shown = text.trim() === '' ? [] : (parseJson(text, PROGRAM_LIMITS) as { dst: string; dev: string }[]);
  return new Map(shown.map(({ dst, dev }) => [dst, dev]));
}

/** Which of its ways a daemon's packets went meanwhile, by its counters: null for both, none, or no daemon. */
export function carrierMoved(
  before: PlaceFacts | undefined,
  after: PlaceFacts | undefined,
  direction: 'tx' | 'rx',
): 'kernel' | 'user' | null {
  const grown = (name: string) => {
    const [old, now] = [before, after].map((facts) => facts?.daemon?.backend?.totals[name] ?? 0);
    return (now ?? 0) - (old ?? 0);
  };
  const [all, byKernel] = [grown(`${direction}_packets`), grown(`kernel_${direction}_packets`)];
  if (all === 0 || (byKernel > 0 && byKernel < all)) return null;
  return byKernel > 0 ? 'kernel' : 'user';
}

/** What `iptables-save -c` prints. The same rule twice in a chain counts as one. */
export function parseRuleCounts(text: string, family = ''): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  let table = '';
  const add = (rule: string, packets: string) => {
    const key = `${family}${table} ${rule}`;
    counts.set(key, (counts.get(key) ?? 0) + Number(packets));
  };
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1).trim();
    const rule = /^\[(\d+):\d+\] (-A .*)$/.exec(line);
    if (rule !== null) add(rule[2], rule[1]);
    const policy = /^:(\S+) (ACCEPT|DROP) \[(\d+):\d+\]$/.exec(line);
    if (policy !== null) add(`-P ${policy[1]} ${policy[2]}`, policy[3]);
  }
  return counts;
}

/** What /proc/net/snmp and netstat have: pairs of lines, names and numbers. */
export function parseCounters(text: string): ReadonlyMap<string, number> {
  const counters = new Map<string, number>();
  const lines = text.trim().split('\n');
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const [group = '', ...names] = lines[at].trim().split(/\s+/);
    const values = lines[at + 1].trim().split(/\s+/).slice(1);
    for (const [index, name] of names.entries())
      counters.set(`${group.replace(':', '')}.${name}`, Number(values[index]));
  }
  return counters;
}

/** What grew, in the order of the second, with by how much. */
export function moved(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): ReadonlyMap<string, number> {
  const grown = [...after].map(([name, value]) => [name, value - (before.get(name) ?? 0)] as const);
  return new Map(grown.filter(([, by]) => by > 0));
}
