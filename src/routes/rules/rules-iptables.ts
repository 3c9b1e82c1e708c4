import { exec } from '../../base/exec.js';
import { formatPrefix } from '../../base/ipv4.js';
import type { Run } from '../ip.js';
import {
  canonicalRule,
  parseSavedRules,
  ruleComment,
  ruleTarget,
  type SavedRules,
  type SavedTable,
} from './iptables-save.js';
import {
  type AddressMatch,
  forwardRules,
  masqueradeRules,
  type Rule,
  type RulesOptions,
  type Verdict,
} from './rules.js';
import { iptablesError, RulesError } from './rules-errors.js';

/** One chain of ours in one table, and the jump that leads to it. */
export interface WantedChain {
  readonly table: string;
  readonly chain: string;
  /** The kernel's chain that the jump stands in. */
  readonly parent: string;
  readonly comment: string;
  /** Null: the chain, the jump and everything with our comment in `parent` must be gone. */
  readonly rules: readonly string[] | null;
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

/** flannel's chains with the rules for these options; without options, none of them. */
export function wantedChains(options: RulesOptions | null): readonly WantedChain[] {
  const chain = (name: string, comment: string, rules: readonly Rule[] | null) =>
    rules?.map((rule) => ruleText(name, rule, comment)) ?? null;
  return [
    {
      table: 'nat',
      chain: 'FLANNEL-POSTRTG',
      parent: 'POSTROUTING',
      comment: 'flanneld masq',
      rules: chain('FLANNEL-POSTRTG', 'flanneld masq', options?.masquerade ? masqueradeRules(options) : null),
    },
    {
      table: 'filter',
      chain: 'FLANNEL-FWD',
      parent: 'FORWARD',
      comment: 'flanneld forward',
      rules: chain('FLANNEL-FWD', 'flanneld forward', options?.forward ? forwardRules(options) : null),
    },
  ];
}

/** A rule as `iptables-save` prints it. */
function ruleText(chain: string, rule: Rule, comment: string): string {
  const address = (flag: string, match: AddressMatch | undefined) =>
    match === undefined ? [] : [...(match.negated ? ['!'] : []), flag, formatPrefix(match.prefix)];
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

function hexOf(mark: number): string {
  return `0x${mark.toString(16)}/0x${mark.toString(16)}`;
}

function jumpText({ parent, chain, comment }: WantedChain): string {
  return `-A ${parent} -m comment --comment "${comment}" -j ${chain}`;
}

/**
 * Compares what is there with what is wanted.
 *
 * A chain that differs in any way is rewritten whole, in one transaction of its table. Jumps are appended, as flannel
 * does; one that is there stays where it is. In the kernel's chains only rules that carry flannel's comment, and when a
 * chain of ours goes also every jump to it, are ever removed: versions of flannel before these chains existed left
 * rules with that comment there.
 */
export function repairScript(wanted: readonly WantedChain[], saved: SavedRules): IptablesRepair {
  const script: string[] = [];
  const changes: string[] = [];
  for (const chain of wanted) {
    if (chain.rules !== null && saved.incompatible.includes(chain.table)) {
      throw new RulesError(
        'RULES_TABLE_FOREIGN',
        `the table ip ${chain.table} holds rules that iptables cannot show; move them to a table of their own with nft, ` +
          'or set "EnableNFTables": true in the network configuration',
      );
    }
    const table = saved.tables.get(chain.table);
    const { lines, texts } = chain.rules === null ? removal(chain, table) : restoration(chain, chain.rules, table);
    if (lines.length > 0) script.push(`*${chain.table}`, ...lines, 'COMMIT');
    changes.push(...texts);
  }
  return { script: script.length === 0 ? '' : `${script.join('\n')}\n`, changes };
}

interface TableRepair {
  readonly lines: readonly string[];
  readonly texts: readonly string[];
}

function restoration(wanted: WantedChain, rules: readonly string[], table: SavedTable | undefined): TableRepair {
  const lines: string[] = [];
  const texts: string[] = [];
  const place = `${wanted.table} ${wanted.chain}`;
  const present = table?.rules.get(wanted.chain);
  if (present === undefined || !sameRules(present, rules)) {
    lines.push(`:${wanted.chain} - [0:0]`, ...rules);
    texts.push(present === undefined ? `made the chain ${place}` : `put the rules of the chain ${place} right`);
  }
  const jump = jumpText(wanted);
  const jumps: string[] = [];
  for (const rule of table?.rules.get(wanted.parent) ?? []) {
    if (canonicalRule(rule) === canonicalRule(jump)) jumps.push(rule);
    else if (ruleComment(rule) === wanted.comment) {
      lines.push(deletion(rule));
      texts.push(`removed from ${wanted.table} ${rule.slice(3)}`);
    }
  }
  for (const extra of jumps.slice(1)) {
    lines.push(deletion(extra));
    texts.push(`removed a second jump from ${wanted.parent} to ${place}`);
  }
  if (jumps.length === 0) {
    lines.push(jump);
    texts.push(`added the jump from ${wanted.parent} to ${place}`);
  }
  return { lines, texts };
}

function removal(unwanted: WantedChain, table: SavedTable | undefined): TableRepair {
  const lines: string[] = [];
  const texts: string[] = [];
  if (table === undefined) return { lines, texts };
  for (const [chain, rules] of table.rules) {
    if (chain === unwanted.chain) continue;
    for (const rule of rules) {
      const ours = chain === unwanted.parent && ruleComment(rule) === unwanted.comment;
      if (!ours && ruleTarget(rule) !== unwanted.chain) continue;
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

function sameRules(present: readonly string[], wanted: readonly string[]): boolean {
  return (
    present.length === wanted.length &&
    present.every((rule, index) => canonicalRule(rule) === canonicalRule(wanted[index] as string))
  );
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

/** The rules by `iptables-save` and `iptables-restore`, legacy or nft. */
export class IptablesRules {
  private version: IptablesVersion | null = null;

  /**
   * @param options what is wanted; null when everything is to be removed
   * @param program `iptables`, or a variant such as `iptables-legacy`
   */
  constructor(
    private readonly options: RulesOptions | null,
    private readonly run: Run = exec,
    private readonly program = 'iptables',
  ) {}

  /** Asks the program once what it is. */
  async identify(): Promise<IptablesVersion> {
    if (this.version === null) {
      const { stdout } = await this.attempt([this.program, '--version']);
      this.version = parseIptablesVersion(stdout);
    }
    return this.version;
  }

  async apply(): Promise<readonly string[]> {
    const changes: string[] = [];
    for (let attempt = 0; attempt < attempts; attempt++) {
      const repairs = await this.sync();
      if (repairs.length === 0) return changes;
      changes.push(...repairs);
    }
    throw new RulesError(
      'RULES_NOT_KEPT',
      `the rules written with ${this.program}-restore do not stay as written (${changes.at(-1)}); ` +
        'find the program that changes them with nft monitor, or by looking for other network daemons',
    );
  }

  async check(): Promise<readonly string[]> {
    return this.sync();
  }

  private async sync(): Promise<readonly string[]> {
    const { modern } = await this.identify();
    // One process for all tables: naming one with -t would need a process for each, and make legacy load it.
    const { stdout } = await this.attempt([`${this.program}-save`]);
    const options = this.options && { ...this.options, randomFully: this.options.randomFully && modern };
    const { script, changes } = repairScript(wantedChains(options), parseSavedRules(stdout));
    if (script !== '') {
      await this.attempt([`${this.program}-restore`, '--noflush', ...(modern ? ['--wait=10'] : [])], script);
    }
    return changes.map((change) => `${this.program}: ${change}`);
  }

  private async attempt(argv: readonly string[], input?: string) {
    try {
      return await this.run(argv, input === undefined ? {} : { input });
    } catch (thrown) {
      throw iptablesError(thrown, input);
    }
  }
}
