import { ExecError, exec } from '../../base/exec.js';
import { formatIpv4, formatPrefix } from '../../base/ipv4.js';
import type { Run } from '../ip.js';
import {
  type AddressMatch,
  forwardRules,
  masqueradeRules,
  type Rule,
  type RulesOptions,
  type Verdict,
} from './rules.js';
import { nftablesError, RulesError } from './rules-errors.js';

/** flannel's table. It is ours alone, but chains in it that we do not know are left in peace. */
export const nftablesTable = 'flannel-ipv4';

/** A base chain with its rules. */
export interface NftablesChain {
  readonly name: string;
  readonly type: string;
  readonly hook: string;
  readonly priority: number;
  /** Null: the chain must be gone. */
  readonly rules: readonly Rule[] | null;
}

export function wantedNftablesChains(options: RulesOptions): readonly NftablesChain[] {
  return [
    {
      name: 'forward',
      type: 'filter',
      hook: 'forward',
      priority: 0,
      rules: options.forward ? forwardRules(options) : null,
    },
    {
      name: 'postrtg',
      type: 'nat',
      hook: 'postrouting',
      priority: 100,
      rules: options.masquerade ? masqueradeRules(options) : null,
    },
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
    match === undefined ? [] : [`ip ${field} ${match.negated ? '!= ' : ''}${formatPrefix(match.prefix)}`];
  return [
    ...(rule.mark === undefined ? [] : [`meta mark & ${rule.mark} == ${rule.mark}`]),
    ...address('saddr', rule.source),
    ...address('daddr', rule.destination),
    verdictTexts[rule.verdict],
  ].join(' ');
}

/** The expressions of a rule as `nft -j` prints them. */
export function nftablesRuleJson(rule: Rule): readonly unknown[] {
  const address = (field: string, match: AddressMatch | undefined) => {
    if (match === undefined) return [];
    const { address: value, length } = match.prefix;
    const left = { payload: { protocol: 'ip', field } };
    return [
      { match: { op: match.negated ? '!=' : '==', left, right: { prefix: { addr: formatIpv4(value), len: length } } } },
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

/** A chain as it was listed, each rule as canonical text. */
export interface ListedChain {
  readonly type?: string;
  readonly hook?: string;
  readonly priority?: number;
  readonly policy?: string;
  readonly rules: readonly string[];
}

interface ListedObject {
  readonly chain?: { name: string; type?: string; hook?: string; prio?: number; policy?: string };
  readonly rule?: { chain: string; expr: readonly unknown[] };
}

/** Reads the output of `nft -j list table`. */
export function parseNftablesTable(json: string): ReadonlyMap<string, ListedChain> {
  const { nftables } = JSON.parse(json) as { nftables: readonly ListedObject[] };
  const chains = new Map<string, ListedChain & { rules: string[] }>();
  for (const { chain, rule } of nftables) {
    if (chain !== undefined) {
      const { name, type, hook, prio, policy } = chain;
      const base = { ...(type && { type }), ...(hook && { hook }), ...(policy && { policy }) };
      chains.set(name, { ...base, ...(prio !== undefined && { priority: prio }), rules: [] });
    } else if (rule !== undefined) {
      chains.get(rule.chain)?.rules.push(canonicalExpressions(rule.expr));
    }
  }
  return chains;
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

/** Chain → its rules as this version of nft printed them right after we wrote them. */
export type KnownPrints = ReadonlyMap<string, readonly string[]>;

export interface NftablesRepair {
  /** One transaction for `nft -f`. Empty when nothing is to be done. */
  readonly script: string;
  readonly changes: readonly string[];
  /** The chains that the script rewrites. */
  readonly rewritten: readonly string[];
}

/** Compares the listed table (null: there is none) with the wanted chains. */
export function nftablesRepair(
  wanted: readonly NftablesChain[],
  listed: ReadonlyMap<string, ListedChain> | null,
  known: KnownPrints = new Map(),
): NftablesRepair {
  const table = `ip ${nftablesTable}`;
  const lines: string[] = [];
  const changes: string[] = [];
  const rewritten: string[] = [];
  for (const chain of wanted) {
    const present = listed?.get(chain.name);
    const place = `${table} ${chain.name}`;
    if (chain.rules === null) {
      if (present === undefined) continue;
      lines.push(`flush chain ${place}`, `delete chain ${place}`);
      changes.push(`removed the chain ${place}`);
      continue;
    }
    const expected = chain.rules.map((rule) => canonicalExpressions(nftablesRuleJson(rule)));
    if (present !== undefined && rightBase(chain, present)) {
      if (sameTexts(present.rules, expected) || sameTexts(present.rules, known.get(chain.name))) continue;
      lines.push(`flush chain ${place}`);
      changes.push(`put the rules of the chain ${place} right`);
    } else {
      if (present !== undefined) lines.push(`flush chain ${place}`, `delete chain ${place}`);
      const { type, hook, priority } = chain;
      lines.push(`add chain ${place} { type ${type} hook ${hook} priority ${priority}; policy accept; }`);
      changes.push(present === undefined ? `made the chain ${place}` : `put the chain ${place} back on its hook`);
    }
    lines.push(...chain.rules.map((rule) => `add rule ${place} ${nftablesRuleText(rule)}`));
    rewritten.push(chain.name);
  }
  if (listed === null && lines.length > 0) lines.unshift(`add table ${table}`);
  return { script: lines.length === 0 ? '' : `${lines.join('\n')}\n`, changes, rewritten };
}

function rightBase(wanted: NftablesChain, { type, hook, priority, policy }: ListedChain): boolean {
  return type === wanted.type && hook === wanted.hook && priority === wanted.priority && policy === 'accept';
}

function sameTexts(a: readonly string[], b: readonly string[] | undefined): boolean {
  return b !== undefined && a.length === b.length && a.every((text, index) => text === b[index]);
}

/** The rules by `nft`, in a table of their own. */
export class NftablesRules {
  private readonly wanted: readonly NftablesChain[];
  private readonly known = new Map<string, readonly string[]>();

  constructor(
    options: RulesOptions,
    private readonly run: Run = exec,
  ) {
    this.wanted = wantedNftablesChains(options);
  }

  async apply(): Promise<readonly string[]> {
    const { changes, rewritten } = await this.sync();
    if (rewritten.length > 0) await this.learn(rewritten);
    return changes;
  }

  async check(): Promise<readonly string[]> {
    return (await this.sync()).changes;
  }

  private async sync(): Promise<NftablesRepair> {
    const repair = nftablesRepair(this.wanted, await listTable(this.run), this.known);
    if (repair.script !== '') await nft(this.run, ['-f', '-'], repair.script);
    return { ...repair, changes: repair.changes.map((change) => `nft: ${change}`) };
  }

  /**
   * Remembers how this nft prints what was just written, so that a version which prints a rule in other words than the
   * one tweed was made with does not make every later check rewrite it.
   */
  private async learn(rewritten: readonly string[]): Promise<void> {
    const listed = await listTable(this.run);
    for (const chain of this.wanted) {
      if (chain.rules === null || !rewritten.includes(chain.name)) continue;
      const present = listed?.get(chain.name);
      if (present === undefined || !rightBase(chain, present) || present.rules.length !== chain.rules.length) {
        throw new RulesError(
          'RULES_NOT_KEPT',
          `the rules written to the chain ${chain.name} of the table ip ${nftablesTable} do not stay as written; ` +
            'find the program that changes them with nft monitor',
        );
      }
      this.known.set(chain.name, present.rules);
    }
  }
}

/** Deletes the table with all that is in it. */
export async function removeNftablesTable(run: Run = exec): Promise<readonly string[]> {
  if ((await listTable(run)) === null) return [];
  await nft(run, ['delete', 'table', 'ip', nftablesTable]);
  return [`nft: removed the table ip ${nftablesTable}`];
}

async function listTable(run: Run): Promise<ReadonlyMap<string, ListedChain> | null> {
  try {
    return parseNftablesTable((await run(['nft', '-j', 'list', 'table', 'ip', nftablesTable])).stdout);
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
