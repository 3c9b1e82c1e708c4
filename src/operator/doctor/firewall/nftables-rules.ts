/** Rules as `nft -j list ruleset` prints them, for walking. What an expression means: libnftables-json(5). */
import { parseAddress, parseAnyPrefix } from '../../../base/address.js';
import { isObject, nftObjects } from '../../../routes/rules/nftables-json.js';
import {
  type Answer,
  addressAmong,
  cannotTell,
  type Extent,
  extentOf,
  interfaceIs,
  not,
  type Packet,
  portAmong,
  protocolIs,
} from './packet.js';
import type { Action, BaseChain, Match, Rule } from './walk.js';

type Json = Readonly<Record<string, unknown>>;

/** A table's family and name, and a name in it. */
type Key = string;

/** A chain on a hook, and what it needs to be walked. */
export interface NftablesBaseChain extends BaseChain {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly hook: string;
  readonly priority: number;
}

interface Names {
  /** Of sets and maps, by their name in the table. */
  readonly elements: (name: string) => readonly unknown[] | null;
}

/**
 * The chains on hooks of the kernel, in the order of their priority; those for network address translation refuse nothing.
 *
 * @param text what `nft -j list ruleset` printed
 * @param listing what `nft -a list ruleset` printed, for the rules' text
 * @throws JsonError
 */
export function nftablesChains(text: string, listing = ''): readonly NftablesBaseChain[] {
  const texts = ruleTexts(listing);
  const listed = nftObjects<{ chain?: Json; rule?: Json; set?: Json; map?: Json }>(text);
  const sets = new Map<Key, readonly unknown[]>();
  for (const { set, map } of listed) {
    const one = set ?? map;
    if (isObject(one)) sets.set(keyOf(one, one.name), Array.isArray(one.elem) ? one.elem : []);
  }
  const chains = new Map<Key, Map<string, Rule[]>>();
  const counts = new Map<Key, number>();
  for (const { rule, chain } of listed) {
    if (isObject(chain)) rulesOf(chains, chain, chain.name);
    if (!isObject(rule)) continue;
    const key = keyOf(rule, rule.chain);
    const number = (counts.get(key) ?? 0) + 1;
    counts.set(key, number);
    const names: Names = { elements: (name) => sets.get(keyOf(rule, name)) ?? null };
    const expressions = (rule.expr as unknown[]).map((part) => (isObject(part) ? part : { unknown: part }));
    const shown = texts.get(keyOf(rule, rule.handle)) ?? expressions.map((part) => JSON.stringify(part)).join(' ');
    const rules = parseRule(expressions, names).map((one) => ({ ...one, text: shown, number }));
    rulesOf(chains, rule, rule.chain).push(...rules);
  }
  const bases = listed.flatMap(({ chain }): NftablesBaseChain[] => {
    if (!isObject(chain) || typeof chain.hook !== 'string' || chain.type === 'nat') return [];
    const [family, table, name] = [chain.family, chain.table, chain.name].map(String) as [string, string, string];
    const ofTable = chains.get(keyOf(chain, '')) ?? new Map<string, Rule[]>();
    return [
      {
        name: `nftables ${family} ${table} ${name}`,
        rules: ofTable.get(name) ?? [],
        policy: chain.policy === 'drop' ? 'refuse' : 'accept',
        chains: ofTable,
        family,
        table,
        chain: name,
        hook: chain.hook,
        priority: Number(chain.prio ?? 0),
      },
    ];
  });
  return bases.sort((a, b) => a.priority - b.priority);
}

const hooks: Readonly<Record<Packet['path'], readonly string[]>> = {
  input: ['prerouting', 'input'],
  forward: ['prerouting', 'forward', 'postrouting'],
  output: ['output', 'postrouting'],
};

/** Those that a packet has to pass, in the kernel's order. */
export function onPath(
  chains: readonly NftablesBaseChain[],
  { path, family }: Pick<Packet, 'path' | 'family'>,
): readonly NftablesBaseChain[] {
  const seen = family === 4 ? ['ip', 'inet'] : ['ip6', 'inet'];
  return hooks[path].flatMap((hook) => chains.filter((chain) => chain.hook === hook && seen.includes(chain.family)));
}

function keyOf({ family, table }: Json, name: unknown): Key {
  return `${family} ${table} ${name}`;
}

function rulesOf(chains: Map<Key, Map<string, Rule[]>>, of: Json, name: unknown): Rule[] {
  const key = keyOf(of, '');
  const ofTable = chains.get(key) ?? new Map<string, Rule[]>();
  chains.set(key, ofTable);
  const rules = ofTable.get(String(name)) ?? [];
  ofTable.set(String(name), rules);
  return rules;
}

/** What `nft -a` writes behind each rule is its handle, which is its own in the table. */
function ruleTexts(listing: string): ReadonlyMap<Key, string> {
  const texts = new Map<Key, string>();
  let [family, table] = ['', ''];
  for (const line of listing.split('\n')) {
    const opened = /^table (\S+) (\S+) \{/.exec(line);
    const rule = /^\s+(.*) # handle (\d+)$/.exec(line);
    if (opened !== null) [, family, table] = opened as unknown as [string, string, string];
    else if (rule !== null) texts.set(keyOf({ family, table }, rule[2]), rule[1] as string);
  }
  return texts;
}

type Half = Pick<Rule, 'matches' | 'action'>;

/** A verdict map makes as many rules as it has elements, of which at most one matches. */
function parseRule(expressions: readonly Json[], names: Names): readonly Half[] {
  const matches: Match[] = [];
  for (const [at, part] of expressions.entries()) {
    const [kind = ''] = Object.keys(part);
    const value = part[kind];
    const rest = () =>
      parseRule(expressions.slice(at + 1), names).map((one) => ({ ...one, matches: [...matches, ...one.matches] }));
    if (kind === 'match') matches.push(matchOf(value, names));
    else if (kind === 'vmap') {
      const branches = branchesOf(value, names) ?? [{ match: () => true as const, action: UNKNOWN_MAP }];
      return [...branches.map(({ match, action }) => ({ matches: [...matches, match], action })), ...rest()];
    } else if (kind === 'mangle') {
      const action = mangleOf(value);
      if (action !== null) return [{ matches: [...matches], action }, ...rest()];
    } else {
      const action = verdictOf(kind, value);
      if (action !== null) return [{ matches, action }];
      if (!PASSING.has(kind)) matches.push(() => cannotTell(`what ${kind} does is not known here`));
    }
  }
  return [{ matches, action: { kind: 'nothing' } }];
}

const UNKNOWN_MAP: Action = { kind: 'unknown', why: 'its map is not known here' };

/** Statements that neither match nor decide. */
const PASSING = new Set(
  'counter log notrack ct flow meter set map add update delete dnat snat masquerade redirect dup comment'.split(' '),
);

function verdictOf(kind: string, value: unknown): Action | null {
  switch (kind) {
    case 'accept':
      return { kind: 'accept' };
    case 'drop':
    case 'reject':
      return { kind: 'refuse' };
    case 'return':
      return { kind: 'return' };
    case 'continue':
      return { kind: 'nothing' };
    case 'jump':
    case 'goto':
      return { kind, chain: String((isObject(value) ? value : {}).target) };
    case 'queue':
    case 'tproxy':
    case 'synproxy':
    case 'fwd':
      return { kind: 'unknown', why: `what becomes of packets behind ${kind} cannot be told` };
    default:
      return null;
  }
}

/** Null where it leaves the mark alone. */
function mangleOf(value: unknown): Action | null {
  const { key, value: to } = (isObject(value) ? value : {}) as { key?: { meta?: { key?: string } }; value?: unknown };
  if (key?.meta?.key !== 'mark') return null;
  return typeof to === 'number'
    ? { kind: 'mark', value: to, mask: 0xffffffff }
    : { kind: 'unknown', why: 'the mark that it sets cannot be told' };
}

function branchesOf(value: unknown, names: Names): readonly { match: Match; action: Action }[] | null {
  const { key, data } = (isObject(value) ? value : {}) as { key?: unknown; data?: unknown };
  const elements =
    typeof data === 'string' && data.startsWith('@')
      ? names.elements(data.slice(1))
      : isObject(data) && Array.isArray(data.set)
        ? data.set
        : null;
  return (
    elements?.map((element) => {
      const [from, verdict] = Array.isArray(element) ? (element as unknown[]) : [null, null];
      const [kind = ''] = isObject(verdict) ? Object.keys(verdict) : [];
      const action = verdictOf(kind, isObject(verdict) ? verdict[kind] : null) ?? UNKNOWN_MAP;
      return { match: comparison(key, [from], names), action };
    }) ?? null
  );
}

function matchOf(value: unknown, names: Names): Match {
  const { op, left, right } = (isObject(value) ? value : {}) as { op?: string; left?: unknown; right?: unknown };
  const values = valuesOf(right, names);
  if (values === null || !['==', '!=', 'in'].includes(op ?? '')) return unknown(left);
  const match = comparison(left, values, names);
  return op === '!=' ? (packet, mark) => not(match(packet, mark)) : match;
}

/** What stands on the right: one value, a list, a set, or the name of one. Null: a set that is not known. */
function valuesOf(right: unknown, names: Names): readonly unknown[] | null {
  if (typeof right === 'string' && right.startsWith('@')) return names.elements(right.slice(1));
  if (Array.isArray(right)) return right;
  const set = isObject(right) ? right.set : undefined;
  return Array.isArray(set) ? set : [right];
}

const unknown =
  (left: unknown): Match =>
  () =>
    cannotTell(`what ${JSON.stringify(left) ?? 'it'} is cannot be told here`);

/** Is what the expression reads from the packet among these? */
function comparison(left: unknown, values: readonly unknown[], names: Names): Match {
  const plain = values.map(elementOf);
  if (!isObject(left)) return unknown(left);
  const { payload, meta, ct, fib, concat } = left as Readonly<Record<string, Json | undefined>>;
  if (Array.isArray(concat)) return concatenation(concat, plain, names);
  if (payload !== undefined) return payloadIs(left, payload, plain);
  if (meta !== undefined) return metaIs(left, meta, plain);
  if (ct?.key === 'state') return () => plain.includes('new');
  if (ct?.key === 'status') return () => false; // of a connection that is not yet confirmed, and translated by nobody
  if (fib?.result === 'type') return fibTypeIs(left, fib, plain);
  return maskedMark(left, plain);
}

/** A set's element may carry a timeout or a counter. */
function elementOf(value: unknown): unknown {
  const inner = isObject(value) && isObject(value.elem) ? value.elem.val : undefined;
  return inner === undefined ? value : inner;
}

function concatenation(parts: readonly unknown[], elements: readonly unknown[], names: Names): Match {
  const each = elements.map((element) => {
    const values = isObject(element) && Array.isArray(element.concat) ? element.concat : [];
    return parts.map((part, index) => comparison(part, [values[index]], names));
  });
  return (packet, mark) => {
    let answer: Answer = false;
    for (const matches of each) {
      const answers = matches.map((match) => match(packet, mark));
      if (answers.includes(false)) continue;
      const doubt = answers.find((one) => one !== true);
      if (doubt === undefined) return true;
      answer = doubt;
    }
    return answer;
  };
}

function payloadIs(left: unknown, { protocol, field }: Json, values: readonly unknown[]): Match {
  const of = String(protocol);
  switch (field) {
    case 'saddr':
    case 'daddr': {
      if (of !== 'ip' && of !== 'ip6') return unknown(left);
      const extents = values.map(extentFrom);
      if (extents.includes(null)) return unknown(left);
      const family = of === 'ip' ? 4 : 6;
      return (packet) =>
        packet.family === family &&
        addressAmong(field === 'saddr' ? packet.sources : packet.destinations, extents as Extent[]);
    }
    case 'sport':
    case 'dport': {
      const ranges = values.map(rangeFrom);
      if (ranges.includes(null)) return unknown(left);
      return (packet) =>
        (of === 'th' || of === packet.protocol) &&
        portAmong(field === 'sport' ? packet.sourcePort : packet.destinationPort, ranges as [number, number][]);
    }
    case 'protocol':
    case 'nexthdr':
      return ({ protocol: own }) => values.some((value) => protocolIs(own, String(value)));
    default:
      // a field of a protocol that the packet does not have matches nothing
      return (packet, mark) =>
        ['tcp', 'udp', 'icmp', 'icmpv6', 'sctp', 'dccp'].includes(of) && of !== packet.protocol
          ? false
          : unknown(left)(packet, mark);
  }
}

function metaIs(left: unknown, { key }: Json, values: readonly unknown[]): Match {
  const texts = values.map(String);
  switch (key) {
    case 'iifname':
    case 'iif':
      return ({ inInterface }) => anyOf(texts.map((text) => interfaceIs(inInterface, text, '*')));
    case 'oifname':
    case 'oif':
      return ({ outInterface }) => anyOf(texts.map((text) => interfaceIs(outInterface, text, '*')));
    case 'l4proto':
      return ({ protocol }) => texts.some((text) => protocolIs(protocol, text));
    case 'nfproto':
      return ({ family }) => texts.includes(family === 4 ? 'ipv4' : 'ipv6');
    case 'protocol':
      return ({ family }) => texts.includes(family === 4 ? 'ip' : 'ip6');
    case 'pkttype':
      return () => texts.includes('host') || texts.includes('unicast');
    case 'mark':
      return maskedMark(left as Json, values);
    default:
      return unknown(left);
  }
}

function anyOf(answers: readonly Answer[]): Answer {
  return answers.includes(true) ? true : (answers.find((answer) => answer !== false) ?? false);
}

/** `meta mark`, alone or with a mask. */
function maskedMark(left: Json, values: readonly unknown[]): Match {
  const parts = Array.isArray(left['&']) ? (left['&'] as unknown[]) : [left, 0xffffffff];
  const [inner, mask] = parts as [Json | undefined, unknown];
  const meta = isObject(inner) ? (inner.meta as Json | undefined) : undefined;
  if (meta?.key !== 'mark' || typeof mask !== 'number') return unknown(left);
  return (_packet, mark) =>
    mark === null ? cannotTell('the mark is not known') : values.includes((mark & mask) >>> 0);
}

function fibTypeIs(left: unknown, { flags }: Json, values: readonly unknown[]): Match {
  const [of, ...more] = [flags].flat();
  if (more.length > 0) return unknown(left);
  return ({ path }) => values.includes((of === 'daddr' ? path === 'input' : path === 'output') ? 'local' : 'unicast');
}

function extentFrom(value: unknown): Extent | null {
  if (typeof value === 'string') {
    const written = parseAnyPrefix(value);
    if (written !== null) return extentOf(written);
    const address = parseAddress(value);
    return address === null ? null : { low: address, high: address };
  }
  const { prefix, range } = (isObject(value) ? value : {}) as { prefix?: Json; range?: unknown };
  if (isObject(prefix)) {
    const parsed = parseAnyPrefix(`${prefix.addr}/${prefix.len}`);
    return parsed === null ? null : extentOf(parsed);
  }
  const [low, high] = Array.isArray(range) ? range.map((end) => parseAddress(String(end))) : [null, null];
  return low == null || high == null || typeof low !== typeof high ? null : { low, high };
}

function rangeFrom(value: unknown): readonly [number, number] | null {
  if (typeof value === 'number') return [value, value];
  const range = isObject(value) ? value.range : undefined;
  return Array.isArray(range) && range.length === 2 ? [Number(range[0]), Number(range[1])] : null;
}
