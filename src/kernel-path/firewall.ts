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
/** Of a chain's policy, or of a rule. */
const REFUSES = /^:FORWARD DROP\b|^-A FORWARD\b.*-j (?!ACCEPT\b)\S+|hook forward.*policy drop/m;

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
  const match = REFUSES.exec(firewall.rules);
  if (match === null) return '';
  return `the host filters forwarded packets ("${match[0].trim()}"), and would see the beginning of each flow only; -kernel-path=direct if that will do`;
}
