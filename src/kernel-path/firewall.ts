/**
 * What the host's rules mean for mode `direct`, in which a container's packets out pass the host and those in do not.
 *
 * Connection tracking then sees half of each connection. It takes TCP that acknowledges what it has not seen for invalid, unless
 * it is told to be liberal; rules that ask for the state of a connection would decide wrongly.
 */
import { readFileSync } from 'node:fs';
import type { Run } from './attachment.js';

export interface Firewall {
  /** All rules as text, counters left out: another text when anything changed. */
  readonly rules: string;
  /** net.netfilter.nf_conntrack_tcp_be_liberal is 1, or nothing is tracked here. */
  readonly liberal: boolean;
}

/** What cannot be asked (a program that is missing) has no rules. */
export async function readFirewall(run: Run): Promise<Firewall> {
  const ask = async (argv: readonly string[]) => {
    try {
      return (await run(argv, true)).stdout;
    } catch {
      return '';
    }
  };
  const [saved, nft] = await Promise.all([ask(['iptables-save']), ask(['nft', '-s', 'list', 'ruleset'])]);
  return { rules: withoutCounters(saved) + nft, liberal: readLiberal() };
}

export function withoutCounters(saved: string): string {
  return saved.replace(/^#.*\n/gm, '').replace(/\[\d+:\d+\]/g, '');
}

function readLiberal(): boolean {
  try {
    return readFileSync('/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal', 'utf8').trim() === '1';
  } catch {
    return true;
  }
}

const ASKS_FOR_STATE = /--(?:ct)?state\b|\bct state\b/;
/** A chain of nftables whose packets are dropped unless a rule accepts them. */
const NFT_REFUSES = /hook forward.*policy drop/;

/**
 * The first line by which iptables may do anything but accept a forwarded packet: a policy or a rule of FORWARD, or of a chain
 * that it leads to. A chain that only accepts is none, as that of `-iptables-forward-rules` is. Undefined when there is none.
 */
function refusalOfIptables(saved: string): string | undefined {
  let table = '';
  const rules = new Map<string, string[]>();
  let policy: string | undefined;
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) table = line;
    else if (line.startsWith(':FORWARD DROP')) policy ??= line;
    const [word = '', name = ''] = line.split(' ');
    if (word.startsWith(':')) rules.set(`${table} ${word.slice(1)}`, []);
    if (word !== '-A') continue;
    const chain = `${table} ${name}`;
    rules.set(chain, [...(rules.get(chain) ?? []), line]);
  }
  const seen = new Set<string>();
  const search = (chain: string): string | undefined => {
    if (seen.has(chain)) return undefined;
    seen.add(chain);
    const [of = ''] = chain.split(' ');
    for (const line of rules.get(chain) ?? []) {
      const target = / -[jg] (\S+)/.exec(line)?.[1] ?? 'RETURN';
      if (target === 'ACCEPT' || target === 'RETURN') continue;
      const next = `${of} ${target}`;
      const found = rules.has(next) ? search(next) : line;
      if (found !== undefined) return found;
    }
    return undefined;
  };
  const tables = [...rules.keys()].filter((chain) => chain.endsWith(' FORWARD'));
  return policy ?? tables.map(search).find((line) => line !== undefined);
}

/** Why packets may not go straight to containers here; empty when they may. */
export function obstacleToDirect({ rules, liberal }: Firewall): string {
  const line = rules.split('\n').find((one) => ASKS_FOR_STATE.test(one));
  if (line === undefined || liberal) return '';
  return `the rule "${line.trim()}" asks for the state of connections, of which the host would see one half; set net.netfilter.nf_conntrack_tcp_be_liberal=1`;
}

/** Why packets should not go straight to containers unless somebody demands it; empty when nothing speaks against it. */
export function doubtAboutDirect(firewall: Firewall): string {
  const obstacle = obstacleToDirect(firewall);
  if (obstacle !== '') return obstacle;
  const refusal = refusalOfIptables(firewall.rules) ?? NFT_REFUSES.exec(firewall.rules)?.[0];
  if (refusal === undefined) return '';
  return `the host filters forwarded packets ("${refusal.trim()}"), and would see the beginning of each flow only; -kernel-path=direct if that will do`;
}
