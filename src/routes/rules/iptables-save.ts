/** What `iptables-save` and `ip6tables-save` print, as data. */

import { type AnyPrefix, parseAnyPrefix } from '../../base/address.js';

export interface SavedTable {
  /** Chain → its policy; `-` for a chain that a user made. */
  readonly policies: ReadonlyMap<string, string>;
  /** Chain → its rules in order, each the whole line that starts with `-A CHAIN`. */
  readonly rules: ReadonlyMap<string, readonly string[]>;
}

export interface SavedRules {
  readonly tables: ReadonlyMap<string, SavedTable>;
  /** Tables that hold rules which only nft can show (iptables-nft says so in a comment). */
  readonly incompatible: readonly string[];
}

export function parseSavedRules(text: string): SavedRules {
  const tables = new Map<string, { policies: Map<string, string>; rules: Map<string, string[]> }>();
  const incompatible: string[] = [];
  let table: { policies: Map<string, string>; rules: Map<string, string[]> } | undefined;
  for (const line of text.split('\n')) {
    const foreign = /^# Table `([^']+)' is incompatible/.exec(line);
    const chain = /^:(\S+) (\S+)/.exec(line);
    const rule = /^(?:\[\d+:\d+\] )?(-A (\S+).*)$/.exec(line);
    if (foreign !== null) incompatible.push(foreign[1] as string);
    else if (line.startsWith('*')) {
      table = { policies: new Map(), rules: new Map() };
      tables.set(line.slice(1).trim(), table);
    } else if (chain !== null) {
      table?.policies.set(chain[1] as string, chain[2] as string);
      table?.rules.set(chain[1] as string, []);
    } else if (rule !== null) table?.rules.get(rule[2] as string)?.push((rule[1] as string).trimEnd());
  }
  return { tables, incompatible };
}

/** Splits a rule into words; a quoted text is one word, its quotes and backslashes undone. */
export function ruleWords(rule: string): readonly string[] {
  const words: string[] = [];
  for (const match of rule.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)) {
    words.push(match[1] === undefined ? (match[2] as string) : match[1].replace(/\\(.)/g, '$1'));
  }
  return words;
}

/**
 * Two rules with the same canonical text do the same: its matches come in a fixed order, whatever order a version of
 * the tool prints them in. The target stays with its options.
 */
export function canonicalRule(rule: string): string {
  const groups: string[][] = [];
  let negation: string[] = [];
  for (const word of ruleWords(rule)) {
    if (word === '!') {
      negation = ['!'];
      continue;
    }
    // A single dash starts a match or the target; what follows with two dashes are its options.
    if (/^-[A-Za-z]$/.test(word) || groups.length === 0) groups.push([...negation, word]);
    else (groups.at(-1) as string[]).push(...negation, word);
    negation = [];
  }
  return groups
    .map((group) => JSON.stringify(group))
    .sort()
    .join(' ');
}

/** The text of `-m comment --comment TEXT`; null when the rule has none. */
export function ruleComment(rule: string): string | null {
  const words = ruleWords(rule);
  const at = words.indexOf('--comment');
  return at < 0 ? null : (words[at + 1] ?? null);
}

/** The chain or target after `-j`; null when the rule only counts. */
export function ruleTarget(rule: string): string | null {
  const words = ruleWords(rule);
  const at = words.indexOf('-j');
  return at < 0 ? null : (words[at + 1] ?? null);
}

/** The prefixes after `-s` and `-d`, negated or not. */
export function ruleAddresses(rule: string): readonly AnyPrefix[] {
  const words = ruleWords(rule);
  return words.flatMap((word, at) => {
    const prefix = word === '-s' || word === '-d' ? parseAnyPrefix(words[at + 1] ?? '') : null;
    return prefix === null ? [] : [prefix];
  });
}

/** Does this rule, or a chain that it leads to, drop or reject whatever comes to it? */
export function refusesEverything(rule: string, table: SavedTable): boolean {
  return refuses(rule, table, new Map(), 0);
}

/** @param known of each chain that was looked at; those that are being looked at count as harmless */
function refuses(rule: string, table: SavedTable, known: Map<string, boolean>, depth: number): boolean {
  const target = unconditionalTarget(rule);
  if (target === null || depth > 100) return false;
  if (target === 'DROP' || target === 'REJECT') return true;
  const before = known.get(target);
  if (before !== undefined) return before;
  known.set(target, false);
  for (const inner of table.rules.get(target) ?? []) {
    if (refuses(inner, table, known, depth + 1)) {
      known.set(target, true);
      return true;
    }
    const verdict = unconditionalTarget(inner);
    if (verdict === 'ACCEPT' || verdict === 'RETURN') return false;
  }
  return false;
}

/** The target of a rule without matches; a comment is none. */
function unconditionalTarget(rule: string): string | null {
  const [, , ...words] = ruleWords(rule);
  if (words[0] === '-m' && words[1] === 'comment') words.splice(0, 4);
  return words[0] === '-j' || words[0] === '-g' ? (words[1] ?? null) : null;
}
