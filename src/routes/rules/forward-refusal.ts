/**
 * Does anything on this host refuse the overlay's packets on their way through?
 *
 * A hint, not proof: a firewall can be written in more ways than can be judged here. A chain counts as closed when its
 * policy or its last rule refuses everything, and a network as let in when some rule that accepts names it.
 */
import {
  type AnyPrefix,
  type Family,
  familyOf,
  formatAnyPrefix,
  parseAnyPrefix,
  prefixCovers,
} from '../../base/address.js';
import { ExecError, exec } from '../../base/exec.js';
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
import { iptablesProgram } from './rules-iptables.js';
import type { RulesMode } from './traffic-rules.js';

/** Every rule in force; null where a tool is not installed or may not look. */
export interface Firewall {
  readonly iptables: SavedRules | null;
  /** Left out where nobody asked: it matters to IPv6 alone. */
  readonly ip6tables?: SavedRules | null;
  readonly nftables: NftablesRuleset | null;
}

export interface Refusal {
  readonly text: string;
  /** The command that lets the packets through. */
  readonly fix: string;
  /** False where it may be otherwise. */
  readonly isSure: boolean;
}

export async function readFirewall(run: Run = exec, families: readonly Family[] = [4]): Promise<Firewall> {
  const [nftables, iptables, ip6tables] = await Promise.all(
    [
      ['nft', '-j', 'list', 'ruleset'],
      families.includes(4) ? ['iptables-save'] : null,
      families.includes(6) ? ['ip6tables-save'] : null,
    ].map(async (argv) => {
      if (argv === null) return null;
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
    ip6tables: ip6tables == null ? null : parseSavedRules(ip6tables),
    nftables: nftables == null ? null : parseNftablesRuleset(nftables),
  };
}

/** What refuses the network's packets in the kernel's forward hook; null when nothing is seen that would. */
export function forwardRefusal(network: AnyPrefix, mode: RulesMode, firewall: Firewall): Refusal | null {
  const { nftables } = firewall;
  const text = formatAnyPrefix(network);
  const family = familyOf(network.address);
  const program = iptablesProgram(family, 'iptables');
  const filter = (family === 4 ? firewall.iptables : firewall.ip6tables)?.tables.get('filter');
  if (filter !== undefined && isClosed(filter, 'FORWARD') && !forwardsNetwork(filter, network)) {
    const fix = `${program} -I FORWARD -s ${text} -j ACCEPT && ${program} -I FORWARD -d ${text} -j ACCEPT`;
    return { text: refusalOfIptables(program, filter, mode), fix, isSure: true };
  }
  const closed = nftables?.baseChains.find(
    (chain) => isForeign(chain, 'forward', family) && !nftAcceptsNetwork(nftables.acceptances, chain, network),
  );
  if (closed === undefined) return null;
  const { table, name } = closed;
  const protocol = family === 4 ? 'ip' : 'ip6';
  const insert = (field: string) =>
    `nft insert rule ${closed.family} ${table} ${name} ${protocol} ${field} ${text} accept`;
  return {
    text: `the nftables chain ${closed.family} ${table} ${name} refuses what no rule accepts, and no rule accepts ${text}`,
    fix:
      table === 'firewalld'
        ? `firewall-cmd --permanent --zone=trusted --add-source=${text} && firewall-cmd --reload`
        : `${insert('saddr')} && ${insert('daddr')}`,
    isSure: false,
  };
}

function refusalOfIptables(program: string, filter: SavedTable, mode: RulesMode): string {
  if (mode === 'nftables') return `${program} refuses forwarded packets, whatever nftables accepts`;
  const jumps = filter.rules.get('FORWARD')?.some((rule) => ruleTarget(rule) === 'FLANNEL-FWD');
  return jumps
    ? 'a rule of FORWARD before the jump to FLANNEL-FWD refuses everything'
    : `${program} refuses forwarded packets, and there is no jump to FLANNEL-FWD; a running tweed adds it unless ` +
        '--iptables-forward-rules=false';
}

/** Policy DROP, or a last rule that refuses without looking. */
export function isClosed(table: SavedTable, chain: string): boolean {
  const rules = table.rules.get(chain) ?? [];
  return table.policies.get(chain) === 'DROP' || rules.some((rule) => refusesEverything(rule, table));
}

/** Is there, before the first rule of FORWARD that refuses everything, one that lets the network through? */
function forwardsNetwork(table: SavedTable, network: AnyPrefix): boolean {
  const rules = table.rules.get('FORWARD') ?? [];
  const end = rules.findIndex((rule) => refusesEverything(rule, table));
  return rules.slice(0, end < 0 ? rules.length : end).some((rule) => {
    const target = ruleTarget(rule);
    if (target === 'FLANNEL-FWD') return true;
    const words = ruleWords(rule);
    const source = parseAnyPrefix(words[words.indexOf('-s') + 1] ?? '');
    return target === 'ACCEPT' && source !== null && !words.includes('!') && prefixCovers(source, network);
  });
}

/** A closed chain on this hook which iptables-nft did not make (its chains are judged as iptables shows them). */
export function isForeign(chain: NftablesBaseChain, wanted: string, wantedFamily: Family = 4): boolean {
  const { family, table, name, hook, closed } = chain;
  const protocol = wantedFamily === 4 ? 'ip' : 'ip6';
  const ofIptables = family === protocol && table === 'filter' && name === wanted.toUpperCase();
  return hook === wanted && closed && !ofIptables && [protocol, 'inet'].includes(family);
}

function nftAcceptsNetwork(
  acceptances: NftablesRuleset['acceptances'],
  { family, table }: NftablesBaseChain,
  network: AnyPrefix,
): boolean {
  return acceptances.some(
    (one) =>
      one.family === family &&
      one.table === table &&
      one.addresses.some((text) => {
        const prefix = parseAnyPrefix(text);
        return prefix !== null && prefixCovers(prefix, network);
      }),
  );
}
