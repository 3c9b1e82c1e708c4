/** The firewall part of `nft -j list ruleset`, as far as doctor judges it. */

import { formatAnyPrefix, hostPrefix, parseAddress } from '../../base/address.js';
import { isObject, nftObjects } from './nftables-json.js';

export interface NftablesBaseChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook: string;
  /** The policy is drop, or its last rule drops or rejects whatever comes to it. */
  readonly closed: boolean;
}

/** A rule that accepts, or leads to a chain that accepts whatever comes to it, with what it names. */
export interface NftablesAcceptance {
  readonly family: string;
  readonly table: string;
  readonly protocol: string | null;
  /** Ranges of destination ports, both ends included; null when it names none. */
  readonly ports: readonly (readonly [number, number])[] | null;
  /** Prefixes that it names as source or destination, as text. */
  readonly addresses: readonly string[];
}

export interface NftablesRuleset {
  readonly baseChains: readonly NftablesBaseChain[];
  readonly acceptances: readonly NftablesAcceptance[];
}

type Json = Readonly<Record<string, unknown>>;
interface RuleJson {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly expr: readonly Json[];
}

export function parseNftablesRuleset(text: string): NftablesRuleset {
  const nftables = nftObjects<{ chain?: Json; rule?: RuleJson }>(text);
  const rules = nftables.flatMap(({ rule }) =>
    rule === undefined ? [] : [{ ...rule, expr: rule.expr.map(expression) }],
  );
  const baseChains = nftables.flatMap(({ chain }) => {
    if (chain?.hook === undefined) return [];
    const { family, table, name, hook } = chain as { family: string; table: string; name: string; hook: string };
    const last = rules.filter((rule) => rule.family === family && rule.table === table && rule.chain === name).at(-1);
    const refuses =
      last?.expr.some((part) => 'drop' in part || 'reject' in part) && !last.expr.some((part) => 'match' in part);
    return [{ family, table, name, hook, closed: chain.policy === 'drop' || refuses === true }];
  });
  const acceptsAll = ({ family, table }: RuleJson, chain: string) =>
    rules.some(
      (rule) =>
        rule.family === family &&
        rule.table === table &&
        rule.chain === chain &&
        rule.expr.some((part) => 'accept' in part) &&
        !rule.expr.some((part) => 'match' in part),
    );
  const accepts = (rule: RuleJson) =>
    rule.expr.some((part) => {
      const { target } = (part.goto ?? part.jump ?? {}) as { target?: string };
      return 'accept' in part || (target !== undefined && acceptsAll(rule, target));
    });
  const acceptances = rules.filter(accepts).map(({ family, table, expr }) => ({ family, table, ...named(expr) }));
  return { baseChains, acceptances };
}

/** nft prints what it cannot show as a plain text: it may match on anything. */
function expression(part: unknown): Json {
  return isObject(part) ? part : { match: {} };
}

function named(expressions: readonly Json[]): Pick<NftablesAcceptance, 'protocol' | 'ports' | 'addresses'> {
  let protocol: string | null = null;
  let ports: (readonly [number, number])[] | null = null;
  const addresses: string[] = [];
  for (const { match } of expressions) {
    const { left, right, op } = (match ?? {}) as { left?: Json; right?: unknown; op?: string };
    const payload = left?.payload as { protocol?: string; field?: string } | undefined;
    if (op === '!=') continue;
    if (payload?.field === 'dport') {
      protocol = payload.protocol ?? null;
      ports = values(right).flatMap(portRange);
    } else if (payload?.field === 'saddr' || payload?.field === 'daddr') {
      addresses.push(...values(right).flatMap(prefixText));
    }
  }
  return { protocol, ports, addresses };
}

/** One value, or the members of a set. */
function values(right: unknown): readonly unknown[] {
  const set = isObject(right) ? right.set : undefined;
  return Array.isArray(set) ? set : [right];
}

function portRange(value: unknown): readonly (readonly [number, number])[] {
  if (typeof value === 'number') return [[value, value]];
  const range = isObject(value) ? value.range : undefined;
  return Array.isArray(range) && range.length === 2 ? [range as unknown as readonly [number, number]] : [];
}

function prefixText(value: unknown): readonly string[] {
  if (typeof value === 'string') {
    const address = parseAddress(value);
    return [address === null ? value : formatAnyPrefix(hostPrefix(address))];
  }
  const prefix = (value as { prefix?: { addr: string; len: number } } | null)?.prefix;
  return prefix === undefined ? [] : [`${prefix.addr}/${prefix.len}`];
}
