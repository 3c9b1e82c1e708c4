import { type AnyPrefix, type Family, familyOf, formatAnyPrefix } from '../../base/address.js';
import { exec } from '../../base/exec.js';
import type { Run } from '../ip.js';
import {
  canonicalRule,
  parseSavedRules,
  refusesEverything,
  ruleAddresses,
  ruleComment,
  ruleTarget,
  type SavedRules,
  type SavedTable,
} from './iptables-save.js';
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
import { iptablesError, RulesError } from './rules-errors.js';

/** One of flannel's chains, the jump that leads to it, and our rules in it. */
export interface WantedChain {
  readonly table: string;
  readonly chain: string;
  /** The kernel's chain that the jump stands in. */
  readonly parent: string;
  readonly comment: string;
  /** As `iptables-save` prints them. */
  readonly shared: readonly string[];
  /** Empty: none of ours may be there. */
  readonly own: readonly string[];
}

/** What to feed to `iptables-restore --noflush`, and what that changes, one line of text each. Empty when nothing is. */
export interface IptablesRepair {
  readonly script: string;
  readonly changes: readonly string[];
}

const targets: Readonly<Record<Verdict, string>> = {
  accept: 'ACCEPT',
  return: 'RETURN',
  masquerade: 'MASQUERADE',
  'masquerade fully random': 'MASQUERADE --random-fully',
};

/** flannel's chains with the rules for these options. */
export function wantedChains(options: RulesOptions): readonly WantedChain[] {
  const chain = (table: string, name: string, parent: string, comment: string, { shared, own }: ChainRules) => {
    const text = (rule: Rule) => ruleText(name, rule, comment);
    return { table, chain: name, parent, comment, shared: shared.map(text), own: own.map(text) };
  };
  return [
    chain('nat', 'FLANNEL-POSTRTG', 'POSTROUTING', 'flanneld masq', masqueradeRules(options)),
    chain('filter', 'FLANNEL-FWD', 'FORWARD', 'flanneld forward', forwardRules(options)),
  ];
}

/** A rule as `iptables-save` prints it. */
function ruleText(chain: string, rule: Rule, comment: string): string {
  const address = (flag: string, match: AddressMatch | undefined) =>
    match === undefined ? [] : [...(match.negated ? ['!'] : []), flag, formatAnyPrefix(match.prefix)];
  const mark = rule.mark === undefined ? [] : ['-m mark --mark', hexOf(rule.mark)];
  return [
    `-A ${chain}`,
    ...address('-s', rule.source),
    ...address('-d', rule.destination),
    ...mark,
    `-m comment --comment "${comment}"`,
    `-j ${targets[rule.verdict]}`,
  ].join(' ');
}

/** nft's word for the family of the networks. */
function ipWord([network]: readonly AnyPrefix[]): 'ip' | 'ip6' {
  return network !== undefined && familyOf(network.address) === 6 ? 'ip6' : 'ip';
}

/** The program that serves a family: `ip6tables-legacy` for `iptables-legacy`. */
export function iptablesProgram(family: Family, iptables: string): string {
  return family === 4 ? iptables : iptables.replace(/^iptables/, 'ip6tables');
}

function hexOf(mark: number): string {
  return `0x${mark.toString(16)}/0x${mark.toString(16)}`;
}

function jumpText({ parent, chain, comment }: WantedChain): string {
  return `-A ${parent} -m comment --comment "${comment}" -j ${chain}`;
}

/**
 * Compares what is there with what is wanted.
 *
 * All is written in one transaction of each table. Our rules in flannel's chain are told from those of other overlays by
 * their addresses, and the chain stays for as long as there are any. In the kernel's chains only the jump is ours, and
 * rules with flannel's comment and our addresses, or none: versions of flannel before these chains existed left such.
 *
 * The jump is appended, as flannel does, so that what the operator refuses before stays refused; but never behind a rule
 * that refuses everything, where it would do nothing (RHEL's FORWARD ends with one): then it stands right before that.
 *
 * @param networks of this overlay: today's, and former ones whose rules shall go
 */
export function repairScript(
  wanted: readonly WantedChain[],
  saved: SavedRules,
  networks: readonly AnyPrefix[],
): IptablesRepair {
  const script: string[] = [];
  const changes: string[] = [];
  for (const chain of wanted) {
    if (chain.own.length > 0 && saved.incompatible.includes(chain.table)) {
      throw new RulesError(
        'RULES_TABLE_FOREIGN',
        `the table ${ipWord(networks)} ${chain.table} holds rules that iptables cannot show; move them to a table of their own with nft, ` +
          'or set "EnableNFTables": true in the network configuration',
      );
    }
    const table = saved.tables.get(chain.table) ?? { policies: new Map(), rules: new Map() };
    const { lines, texts } = tableRepair(chain, table, networks);
    if (lines.length > 0) script.push(`*${chain.table}`, ...lines, 'COMMIT');
    changes.push(...texts);
  }
  return { script: script.length === 0 ? '' : `${script.join('\n')}\n`, changes };
}

interface TableRepair {
  readonly lines: readonly string[];
  readonly texts: readonly string[];
}

function tableRepair(wanted: WantedChain, table: SavedTable, networks: readonly AnyPrefix[]): TableRepair {
  const { chain, shared, own } = wanted;
  const place = `${wanted.table} ${chain}`;
  const present = table.rules.get(chain);
  const texts = { shared: shared.map(canonicalRule), own: own.map(canonicalRule) };
  const { remove, insert, append, isShared } = planChain((present ?? []).map(standing), texts, networks);
  const isWanted = own.length > 0;
  if (!isWanted && !isShared) return chainRemoval(wanted, table, networks);
  const parent = isWanted ? parentRepair(wanted, table, networks) : { lines: [], texts: [] };
  if (present === undefined) {
    const lines = [`:${chain} - [0:0]`, ...shared, ...own, ...parent.lines];
    return { lines, texts: [`made the chain ${place}`, ...parent.texts] };
  }
  const lines = [
    ...remove.map((at) => deletion(present[at] as string)),
    ...insert.map((index) => insertion(shared[index] as string, 1)).reverse(),
    ...(append ? own : []),
  ];
  const done = isWanted ? `put the rules of the chain ${place} right` : `removed our rules from the chain ${place}`;
  return { lines: [...lines, ...parent.lines], texts: [...(lines.length > 0 ? [done] : []), ...parent.texts] };
}

function standing(rule: string): StandingRule {
  return { text: canonicalRule(rule), addresses: ruleAddresses(rule).filter((one) => !isMulticast(one)) };
}

/** One jump to the chain, where it takes effect, and nothing of before there were chains. */
function parentRepair(wanted: WantedChain, table: SavedTable, networks: readonly AnyPrefix[]): TableRepair {
  const { chain, parent } = wanted;
  const place = `${wanted.table} ${chain}`;
  const jump = jumpText(wanted);
  const rules = table.rules.get(parent) ?? [];
  const isJump = (rule: string) => canonicalRule(rule) === canonicalRule(jump);
  const wall = rules.findIndex((rule) => !isJump(rule) && refusesEverything(rule, table));
  const jumps = rules.flatMap((rule, at) => (isJump(rule) ? [at] : []));
  // A rule is deleted by its text, which takes the first like it; so one jump in a wrong place costs all of them.
  const good = jumps.every((at) => wall < 0 || at < wall) ? jumps[0] : undefined;
  const gone = rules.filter((rule, at) => (isJump(rule) ? at !== good : isLeftover(rule, wanted, networks)));
  const left = rules.filter((rule) => !gone.includes(rule));
  const end = left.findIndex((rule) => refusesEverything(rule, table));
  const add = good !== undefined ? [] : [end < 0 ? jump : insertion(jump, end + 1)];
  const before = end < 0 ? '' : `, before ${(left[end] as string).slice(3)}`;
  return {
    lines: [...gone.map(deletion), ...add],
    texts: [
      ...gone.map((rule) => `removed from ${wanted.table} ${rule.slice(3)}`),
      ...add.map(() => `added the jump from ${parent} to ${place}${before}`),
    ],
  };
}

/** A rule that flannel left in the kernel's chain before it had its own; one that names no address is nobody's in particular. */
function isLeftover(text: string, { comment }: WantedChain, networks: readonly AnyPrefix[]): boolean {
  const rule = standing(text);
  return ruleComment(text) === comment && (rule.addresses.length === 0 || belongsTo(rule, networks));
}

/** Nobody has rules in the chain any more: it goes with every jump to it. */
function chainRemoval(unwanted: WantedChain, table: SavedTable, networks: readonly AnyPrefix[]): TableRepair {
  const lines: string[] = [];
  const texts: string[] = [];
  for (const [chain, rules] of table.rules) {
    if (chain === unwanted.chain) continue;
    for (const rule of rules) {
      const left = chain === unwanted.parent && isLeftover(rule, unwanted, networks);
      if (!left && ruleTarget(rule) !== unwanted.chain) continue;
      lines.push(deletion(rule));
      texts.push(`removed from ${unwanted.table} ${rule.slice(3)}`);
    }
  }
  if (table.rules.has(unwanted.chain)) {
    // The chain is emptied first: restore flushes what a line with a colon names.
    lines.unshift(`:${unwanted.chain} - [0:0]`);
    lines.push(`-X ${unwanted.chain}`);
    texts.push(`removed the chain ${unwanted.table} ${unwanted.chain}`);
  }
  return { lines, texts };
}

function deletion(rule: string): string {
  return `-D${rule.slice(2)}`;
}

function insertion(rule: string, place: number): string {
  const [, chain = '', rest = ''] = /^-A (\S+) (.*)$/.exec(rule) ?? [];
  return `-I ${chain} ${place} ${rest}`;
}

/** What `iptables --version` says. Versions before 1.8 knew only what is now called legacy. */
export interface IptablesVersion {
  readonly variant: 'legacy' | 'nft';
  /** 1.6.2 and later: `--random-fully` and `iptables-restore --wait`. */
  readonly modern: boolean;
}

export function parseIptablesVersion(text: string): IptablesVersion {
  const match = /v(\d+)\.(\d+)(?:\.(\d+))?/.exec(text);
  const [major, minor, patch] = [1, 2, 3].map((group) => Number(match?.[group] ?? 0)) as [number, number, number];
  const number = major * 1e6 + minor * 1e3 + patch;
  return { variant: text.includes('nf_tables') ? 'nft' : 'legacy', modern: number >= 1_006_002 };
}

/** How often `apply` writes before it gives up against a program that keeps undoing it. */
const attempts = 3;

export interface IptablesContext {
  /** What is wanted; with neither masquerading nor forwarding, all of this overlay's is to be removed. */
  readonly options: RulesOptions;
  readonly run?: Run;
  /** `iptables`, or a variant such as `iptables-legacy`; for IPv6 the program of the same variant is taken. */
  readonly program?: string;
}

/** The rules by `iptables-save` and `iptables-restore`, legacy or nft. */
export class IptablesRules {
  readonly #options: RulesOptions;
  readonly #run: Run;
  readonly #program: string;
  #version: IptablesVersion | null = null;

  constructor({ options, run = exec, program = 'iptables' }: IptablesContext) {
    this.#options = options;
    this.#run = run;
    this.#program = iptablesProgram(familyOf(options.network.address), program);
  }

  /** Asks the program once what it is. */
  async identify(): Promise<IptablesVersion> {
    if (this.#version === null) {
      const { stdout } = await this.#attempt([this.#program, '--version']);
      this.#version = parseIptablesVersion(stdout);
    }
    return this.#version;
  }

  async apply(): Promise<readonly string[]> {
    const { network, formerNetworks = [] } = this.#options;
    const changes: string[] = [];
    for (let attempt = 0; attempt < attempts; attempt++) {
      const repairs = await this.#sync([network, ...formerNetworks]);
      if (repairs.length === 0) return changes;
      changes.push(...repairs);
    }
    throw new RulesError(
      'RULES_NOT_KEPT',
      `the rules written with ${this.#program}-restore do not stay as written (${changes.at(-1)}); ` +
        'find the program that changes them with nft monitor, or by looking for other network daemons',
    );
  }

  /** Rules of former networks may be another overlay's by now. */
  async check(): Promise<readonly string[]> {
    return this.#sync([this.#options.network]);
  }

  async #sync(networks: readonly AnyPrefix[]): Promise<readonly string[]> {
    const { modern } = await this.identify();
    // One process for all tables: naming one with -t would need a process for each, and make legacy load it.
    const { stdout } = await this.#attempt([`${this.#program}-save`]);
    const options = { ...this.#options, randomFully: this.#options.randomFully && modern };
    const { script, changes } = repairScript(wantedChains(options), parseSavedRules(stdout), networks);
    if (script !== '') {
      await this.#attempt([`${this.#program}-restore`, '--noflush', ...(modern ? ['--wait=10'] : [])], script);
    }
    return changes.map((change) => `${this.#program}: ${change}`);
  }

  async #attempt(argv: readonly string[], input?: string) {
    try {
      return await this.#run(argv, input === undefined ? {} : { input });
    } catch (thrown) {
      throw iptablesError(thrown, input);
    }
  }
}
