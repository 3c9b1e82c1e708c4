/**
 * Does anything on this host refuse the overlay's packets on their way through?
 *
 * A hint, not proof: a firewall can be written in more ways than can be judged here. A chain counts as closed when its
 * policy or its last rule refuses everything, and a network as let in when some rule that accepts names it.
 */
import { ExecError, exec } from '../../base/exec.js';
import { contains, formatPrefix, type Prefix, parsePrefix } from '../../base/ipv4.js';
import type { Run } from '../ip.js';
import {
  parseSavedRules,
  refusesEverything,
  ruleTarget,
  ruleWords,
  type SavedRules,
  type SavedTable,
} from './iptables-save.js';
import { type NftablesBaseChain, type NftablesRuleset, parseNftablesRuleset } from './nftables-ruleset.js';
import type { RulesMode } from './traffic-rules.js';

/** Every rule in force; null where a tool is not installed or may not look. */
export interface Firewall {
  readonly iptables: SavedRules | null;
  readonly nftables: NftablesRuleset | null;
}

export interface Refusal {
  readonly text: string;
  /** The command that lets the packets through. */
  readonly fix: string;
  /** False where it may be otherwise. */
  readonly isSure: boolean;
}

export async function readFirewall(run: Run = exec): Promise<Firewall> {
  const [iptables, nftables] = await Promise.all(
    [['iptables-save'], ['nft', '-j', 'list', 'ruleset']].map(async (argv) => {
      try {
        return (await run(argv)).stdout;
      } catch (thrown) {
        if (thrown instanceof ExecError) return null;
        throw thrown;
      }
    }),
  );
  return {
    iptables: iptables == null ? null : parseSavedRules(iptables),
    nftables: nftables == null ? null : parseNftablesRuleset(nftables),
  };
}

/** What refuses the network's packets in the kernel's forward hook; null when nothing is seen that would. */
export function forwardRefusal(network: Prefix, mode: RulesMode, { iptables, nftables }: Firewall): Refusal | null {
  const text = formatPrefix(network);
  const filter = iptables?.tables.get('filter');
  if (filter !== undefined && isClosed(filter, 'FORWARD') && !forwardsNetwork(filter, network)) {
    const fix = `iptables -I FORWARD -s ${text} -j ACCEPT && iptables -I FORWARD -d ${text} -j ACCEPT`;
    return { text: refusalOfIptables(filter, mode), fix, isSure: true };
  }
  const closed = nftables?.baseChains.find(
    (chain) => isForeign(chain, 'forward') && !nftAcceptsNetwork(nftables.acceptances, chain, network),
  );
  if (closed === undefined) return null;
  const { family, table, name } = closed;
  const insert = (field: string) => `nft insert rule ${family} ${table} ${name} ip ${field} ${text} accept`;
  return {
    text: `the nftables chain ${family} ${table} ${name} refuses what no rule accepts, and no rule accepts ${text}`,
    fix:
      table === 'firewalld'
        ? `firewall-cmd --permanent --zone=trusted --add-source=${text} && firewall-cmd --reload`
        : `${insert('saddr')} && ${insert('daddr')}`,
    isSure: false,
  };
}

function refusalOfIptables(filter: SavedTable, mode: RulesMode): string {
  if (mode === 'nftables') return 'iptables refuses forwarded packets, whatever nftables accepts';
  const jumps = filter.rules.get('FORWARD')?.some((rule) => ruleTarget(rule) === 'FLANNEL-FWD');
  return jumps
    ? 'a rule of FORWARD before the jump to FLANNEL-FWD refuses everything'
    : 'iptables refuses forwarded packets, and there is no jump to FLANNEL-FWD; a running tweed adds it unless ' +
        '--iptables-forward-rules=false';
}

/** Policy DROP, or a last rule that refuses without looking. */
export function isClosed(table: SavedTable, chain: string): boolean {
  const rules = table.rules.get(chain) ?? [];
  return table.policies.get(chain) === 'DROP' || rules.some((rule) => refusesEverything(rule, table));
}

/** Is there, before the first rule of FORWARD that refuses everything, one that lets the network through? */
function forwardsNetwork(table: SavedTable, network: Prefix): boolean {
  const rules = table.rules.get('FORWARD') ?? [];
  const end = rules.findIndex((rule) => refusesEverything(rule, table));
  return rules.slice(0, end < 0 ? rules.length : end).some((rule) => {
    const target = ruleTarget(rule);
    if (target === 'FLANNEL-FWD') return true;
    const words = ruleWords(rule);
    const source = parsePrefix(words[words.indexOf('-s') + 1] ?? '');
    return target === 'ACCEPT' && source !== null && !words.includes('!') && covers(source, network);
  });
}

function covers(outer: Prefix, inner: Prefix): boolean {
  return outer.length <= inner.length && contains(outer, inner.address);
}

/** A closed chain on this hook which iptables-nft did not make (its chains are judged as iptables shows them). */
export function isForeign({ family, table, name, hook, closed }: NftablesBaseChain, wanted: string): boolean {
  const ofIptables = family === 'ip' && table === 'filter' && name === wanted.toUpperCase();
  return hook === wanted && closed && !ofIptables && ['ip', 'inet'].includes(family);
}

function nftAcceptsNetwork(
  acceptances: NftablesRuleset['acceptances'],
  { family, table }: NftablesBaseChain,
  network: Prefix,
): boolean {
  return acceptances.some(
    (one) =>
      one.family === family &&
      one.table === table &&
      one.addresses.some((text) => {
        const prefix = parsePrefix(text);
        return prefix !== null && covers(prefix, network);
      }),
  );
}
