import {
  type AnyPrefix,
  familyOf,
  formatAddress,
  formatAnyPrefix,
  hostPrefix,
  parseAddress,
} from '../../base/address.js';
import { ExecError, exec } from '../../base/exec.js';
import type { Run } from '../ip.js';
import { nftObjects } from './nftables-json.js';
import {
  type AddressMatch,
  belongsTo,
  type ChainRules,
  forwardRules,
  isMulticast,
  masqueradeRules,
  planChain,
  type Rule,
  type RulesOptions,
  type StandingRule,
  type Verdict,
} from './rules.js';
import { nftablesError, RulesError } from './rules-errors.js';

/** flannel's table for the family of a network, as nft names it. Chains in it that we do not know are left in peace. */
export function nftablesTable({ address }: AnyPrefix): string {
  return familyOf(address) === 4 ? 'ip flannel-ipv4' : 'ip6 flannel-ipv6';
}

/** A base chain with our rules in it. */
export interface NftablesChain extends ChainRules {
  /** With its family, as nft names it: that of all chains of one overlay's family. */
  readonly table: string;
  readonly name: string;
  readonly type: string;
  readonly hook: string;
  readonly priority: number;
}

export function wantedNftablesChains(options: RulesOptions): readonly NftablesChain[] {
  const table = nftablesTable(options.network);
  return [
    { table, name: 'forward', type: 'filter', hook: 'forward', priority: 0, ...forwardRules(options) },
    { table, name: 'postrtg', type: 'nat', hook: 'postrouting', priority: 100, ...masqueradeRules(options) },
  ];
}

const verdictTexts: Readonly<Record<Verdict, string>> = {
  accept: 'accept',
  return: 'return',
  masquerade: 'masquerade',
  'masquerade fully random': 'masquerade fully-random',
};

/** A rule in nft's language. */
export function nftablesRuleText(rule: Rule): string {
  const address = (field: string, match: AddressMatch | undefined) =>
    match === undefined
      ? []
      : [`${protocolOf(match.prefix)} ${field} ${match.negated ? '!= ' : ''}${formatAnyPrefix(match.prefix)}`];
  return [
    ...(rule.mark === undefined ? [] : [`meta mark & ${rule.mark} == ${rule.mark}`]),
    ...address('saddr', rule.source),
    ...address('daddr', rule.destination),
    verdictTexts[rule.verdict],
  ].join(' ');
}

function protocolOf({ address }: AnyPrefix): 'ip' | 'ip6' {
  return familyOf(address) === 4 ? 'ip' : 'ip6';
}

/** The expressions of a rule as `nft -j` prints them. */
export function nftablesRuleJson(rule: Rule): readonly unknown[] {
  const address = (field: string, match: AddressMatch | undefined) => {
    if (match === undefined) return [];
    const { address: value, length } = match.prefix;
    const left = { payload: { protocol: protocolOf(match.prefix), field } };
    return [
      {
        match: {
          op: match.negated ? '!=' : '==',
          left,
          right: { prefix: { addr: formatAddress(value), len: length } },
        },
      },
    ];
  };
  const marked = { '&': [{ meta: { key: 'mark' } }, rule.mark] };
  return [
    ...(rule.mark === undefined ? [] : [{ match: { op: '==', left: marked, right: rule.mark } }]),
    ...address('saddr', rule.source),
    ...address('daddr', rule.destination),
    rule.verdict === 'masquerade fully random' ? { masquerade: { flags: ['fully-random'] } } : { [rule.verdict]: null },
  ];
}

/** A chain as it was listed. */
export interface ListedChain {
  readonly type?: string;
  readonly hook?: string;
  readonly priority?: number;
  readonly policy?: string;
  readonly rules: readonly ListedRule[];
}

export interface ListedRule extends StandingRule {
  readonly handle: number;
}

interface ListedObject {
  readonly chain?: { name: string; type?: string; hook?: string; prio?: number; policy?: string };
  readonly rule?: { chain: string; handle: number; expr: readonly unknown[] };
}

/** Reads the output of `nft -j list table`. */
export function parseNftablesTable(json: string): ReadonlyMap<string, ListedChain> {
  const chains = new Map<string, ListedChain & { rules: ListedRule[] }>();
  for (const { chain, rule } of nftObjects<ListedObject>(json)) {
    if (chain !== undefined) {
      const { name, type, hook, prio, policy } = chain;
      const base = { ...(type && { type }), ...(hook && { hook }), ...(policy && { policy }) };
      chains.set(name, { ...base, ...(prio !== undefined && { priority: prio }), rules: [] });
    } else if (rule !== undefined) {
      const { handle, expr } = rule;
      const addresses = addressesIn(expr).filter((one) => !isMulticast(one));
      chains.get(rule.chain)?.rules.push({ handle, text: canonicalExpressions(expr), addresses });
    }
  }
  return chains;
}

/** Every prefix and single address in the expressions of a rule. */
function addressesIn(value: unknown): readonly AnyPrefix[] {
  if (typeof value === 'string') {
    const address = parseAddress(value);
    return address === null ? [] : [hostPrefix(address)];
  }
  if (typeof value !== 'object' || value === null) return [];
  const { addr, len } = value as { addr?: unknown; len?: unknown };
  if (typeof addr !== 'string' || typeof len !== 'number') return Object.values(value).flatMap(addressesIn);
  return addressesIn(addr).map((one) => ({ ...one, length: len }));
}

/** Members in a fixed order, and flags always a list: versions of nft print a single flag bare, or in a list. */
export function canonicalExpressions(value: unknown): string {
  return JSON.stringify(canonical(value));
}

function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== 'object' || value === null) return value;
  const members = Object.entries(value as Record<string, unknown>).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(
    members.map(([key, member]) => [key, canonical(key === 'flags' && !Array.isArray(member) ? [member] : member)]),
  );
}

/** How this version of nft prints a rule that we wrote → the text that we expected. */
export type KnownPrints = ReadonlyMap<string, string>;

export interface NftablesRepair {
  /** One transaction for `nft -f`. Empty when nothing is to be done. */
  readonly script: string;
  readonly changes: readonly string[];
  /** The chains that the script writes our rules to. */
  readonly written: readonly string[];
}

/**
 * Compares the listed table (null: there is none) with what is wanted.
 *
 * @param networks of this overlay: today's, and former ones whose rules shall go
 */
export function nftablesRepair(
  wanted: readonly NftablesChain[],
  listed: ReadonlyMap<string, ListedChain> | null,
  networks: readonly AnyPrefix[],
  known: KnownPrints = new Map(),
): NftablesRepair {
  const lines: string[] = [];
  const changes: string[] = [];
  const written: string[] = [];
  const removed = new Set<string>();
  const table = wanted[0]?.table ?? '';
  for (const chain of wanted) {
    const { name, type, hook, priority, shared, own } = chain;
    const place = `${chain.table} ${name}`;
    const base = `add chain ${place} { type ${type} hook ${hook} priority ${priority}; policy accept; }`;
    const add = (rule: Rule) => `add rule ${place} ${nftablesRuleText(rule)}`;
    const present = listed?.get(name);
    const isWanted = own.length > 0;
    const rules = (present?.rules ?? []).map((rule) => ({ ...rule, text: known.get(rule.text) ?? rule.text }));
    const plan = planChain(rules, { shared: shared.map(expectedText), own: own.map(expectedText) }, networks);
    if (!isWanted && !plan.isShared) {
      if (present === undefined) continue;
      lines.push(`flush chain ${place}`, `delete chain ${place}`);
      changes.push(`removed the chain ${place}`);
      removed.add(name);
    } else if (isWanted && (present === undefined || !isOnHook(chain, present))) {
      // Other overlays' rules go with a chain on the wrong hook, where they did nothing; their daemons write them again.
      if (present !== undefined) lines.push(`flush chain ${place}`, `delete chain ${place}`);
      lines.push(base, ...[...shared, ...own].map(add));
      changes.push(present === undefined ? `made the chain ${place}` : `put the chain ${place} back on its hook`);
      written.push(name);
    } else {
      const work = [
        ...(isWanted && present?.policy !== 'accept' ? [base] : []),
        ...plan.remove.map((at) => `delete rule ${place} handle ${rules[at]?.handle}`),
        ...plan.insert.map((index) => `insert rule ${place} ${nftablesRuleText(shared[index] as Rule)}`).reverse(),
        ...(plan.append ? own.map(add) : []),
      ];
      if (work.length === 0) continue;
      lines.push(...work);
      changes.push(
        isWanted ? `put the rules of the chain ${place} right` : `removed our rules from the chain ${place}`,
      );
      if (plan.append || plan.insert.length > 0) written.push(name);
    }
  }
  if (listed === null && lines.length > 0) lines.unshift(`add table ${table}`);
  if (removed.size > 0 && written.length === 0 && listed?.size === removed.size) {
    return { script: `delete table ${table}\n`, changes: [`removed the table ${table}`], written };
  }
  return { script: lines.length === 0 ? '' : `${lines.join('\n')}\n`, changes, written };
}

function expectedText(rule: Rule): string {
  return canonicalExpressions(nftablesRuleJson(rule));
}

function isOnHook(wanted: NftablesChain, { type, hook, priority }: ListedChain): boolean {
  return type === wanted.type && hook === wanted.hook && priority === wanted.priority;
}

export interface NftablesContext {
  /** What is wanted; with neither masquerading nor forwarding, all of this overlay's is to be removed. */
  readonly options: RulesOptions;
  readonly run?: Run;
}

/** The rules by `nft`, in flannel's table. */
export class NftablesRules {
  readonly #wanted: readonly NftablesChain[];
  readonly #options: RulesOptions;
  readonly #run: Run;
  readonly #table: string;
  readonly #known = new Map<string, string>();

  constructor({ options, run = exec }: NftablesContext) {
    this.#options = options;
    this.#wanted = wantedNftablesChains(options);
    this.#table = nftablesTable(options.network);
    this.#run = run;
  }

  async apply(): Promise<readonly string[]> {
    const { network, formerNetworks = [] } = this.#options;
    const { changes, written } = await this.#sync([network, ...formerNetworks]);
    if (written.length > 0) await this.#learn(written);
    return changes;
  }

  /** Rules of former networks may be another overlay's by now. */
  async check(): Promise<readonly string[]> {
    return (await this.#sync([this.#options.network])).changes;
  }

  async #sync(networks: readonly AnyPrefix[]): Promise<NftablesRepair> {
    const repair = nftablesRepair(this.#wanted, await listTable(this.#run, this.#table), networks, this.#known);
    if (repair.script !== '') await nft(this.#run, ['-f', '-'], repair.script);
    return { ...repair, changes: repair.changes.map((change) => `nft: ${change}`) };
  }

  /**
   * Remembers how this nft prints what was just written, so that a version which prints a rule in other words than the
   * one tweed was made with does not make every later check rewrite it.
   */
  async #learn(written: readonly string[]): Promise<void> {
    const listed = await listTable(this.#run, this.#table);
    for (const { name, own, shared } of this.#wanted) {
      if (!written.includes(name)) continue;
      const rules = listed?.get(name)?.rules ?? [];
      const ours = rules.filter((rule) => belongsTo(rule, [this.#options.network]));
      if (ours.length !== own.length) {
        throw new RulesError(
          'RULES_NOT_KEPT',
          `the rules written to the chain ${name} of the table ${this.#table} do not stay as written; ` +
            'find the program that changes them with nft monitor',
        );
      }
      const heads = rules.filter(({ addresses }) => addresses.length === 0).slice(0, shared.length);
      const expected = [...shared.slice(0, heads.length), ...own].map(expectedText);
      for (const [index, { text }] of [...heads, ...ours].entries()) this.#known.set(text, expected[index] as string);
    }
  }
}

async function listTable(run: Run, table: string): Promise<ReadonlyMap<string, ListedChain> | null> {
  try {
    return parseNftablesTable((await run(['nft', '-j', 'list', 'table', ...table.split(' ')])).stdout);
  } catch (thrown) {
    // nft points at the table's name when it is that which does not exist, and not the kernel's nftables.
    if (thrown instanceof ExecError && /No such file or directory\s+list table/.test(thrown.result?.stderr ?? '')) {
      return null;
    }
    throw nftablesError(thrown);
  }
}

async function nft(run: Run, words: readonly string[], input?: string): Promise<void> {
  try {
    await run(['nft', ...words], input === undefined ? {} : { input });
  } catch (thrown) {
    throw nftablesError(thrown, input);
  }
}
