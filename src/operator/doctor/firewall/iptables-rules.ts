/** Rules as `iptables-save` prints them, for walking. What a match means: iptables-extensions(8). */
import { formatAddress, parseAddress, parseAnyPrefix } from '../../../base/address.js';
import { ruleWords, type SavedRules } from '../../../routes/rules/iptables-save.js';
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

/** The rules of one variant of iptables. */
export interface SavedVariant {
  /** `iptables`, `iptables-nft` or `iptables-legacy`: what its rules are changed by. */
  readonly program: string;
  readonly rules: SavedRules;
}

const hooks = { input: 'INPUT', output: 'OUTPUT', forward: 'FORWARD' } as const;

/** In the kernel's order; those of nat change addresses and refuse nothing. */
const order: Readonly<Record<Packet['path'], readonly (readonly [table: string, chain: string])[]>> = {
  input: before('PREROUTING', hooks.input),
  forward: before('PREROUTING', hooks.forward),
  output: [['raw', 'OUTPUT'], ...tablesOf(hooks.output), ['mangle', 'POSTROUTING']],
};

function before(first: string, hook: string): [string, string][] {
  return [['raw', first], ['mangle', first], ...tablesOf(hook), ...passing(hook)];
}

function tablesOf(hook: string): [string, string][] {
  return ['mangle', 'filter', 'security'].map((table) => [table, hook]);
}

function passing(hook: string): [string, string][] {
  return hook === 'FORWARD' ? [['mangle', 'POSTROUTING']] : [];
}

/** The chains that a packet has to pass, in the kernel's order. */
export function iptablesChains(
  { program, rules: { tables } }: SavedVariant,
  path: Packet['path'],
): readonly BaseChain[] {
  return order[path].flatMap(([tableName, chain]) => {
    const table = tables.get(tableName);
    if (table === undefined || !table.rules.has(chain)) return [];
    const parsed = new Map([...table.rules].map(([name, rules]) => [name, parseRules(rules, table.rules)]));
    const policy = table.policies.get(chain) === 'DROP' ? 'refuse' : 'accept';
    const name = `${program} ${tableName === 'filter' ? '' : `-t ${tableName} `}${chain}`;
    return [{ name, rules: parsed.get(chain) ?? [], policy, chains: parsed }];
  });
}

function parseRules(rules: readonly string[], chains: ReadonlyMap<string, unknown>): readonly Rule[] {
  return rules.map((text, index) => ({ text, number: index + 1, ...parseRule(text, chains) }));
}

/** Modules whose options are all known here, or that only let other options be written. */
const modules = new Set(
  'comment conntrack state udp tcp multiport mark connmark addrtype pkttype iprange icmp icmp6 standard'.split(' '),
);

/** Targets after which the next rule has its turn. */
const PASSING = new Set(
  'LOG NFLOG ULOG AUDIT TRACE CT NOTRACK CONNMARK CONNSECMARK SECMARK CLASSIFY CHECKSUM TCPMSS TTL HL TOS DSCP SET RATEEST LED TEE IDLETIMER'.split(
    ' ',
  ),
);

function parseRule(text: string, chains: ReadonlyMap<string, unknown>): Pick<Rule, 'matches' | 'action'> {
  const words = ruleWords(text).slice(2);
  const matches: Match[] = [];
  let action: Action = { kind: 'nothing' };
  for (let at = 0; at < words.length; at++) {
    const negated = words[at] === '!';
    if (negated) at++;
    const option = words[at] as string;
    if (option === '-j' || option === '-g') {
      action = actionOf(words.slice(at), chains);
      break;
    }
    const value = words[at + 1] ?? '';
    if (option === '-m') {
      if (!modules.has(value)) matches.push(() => cannotTell(`what -m ${value} matches is not known here`));
      at++;
      continue;
    }
    if (option === '--comment') {
      at++;
      continue;
    }
    const make = options[option];
    const values = words.slice(at + 1, at + 1 + (make?.length ?? argumentsAt(words, at)));
    at += values.length;
    const match = make === undefined ? () => cannotTell(`what ${option} matches is not known here`) : make(...values);
    matches.push(negated ? (packet, mark) => not(match(packet, mark)) : match);
  }
  return { matches, action };
}

/** How many words behind an option that is not known belong to it. */
function argumentsAt(words: readonly string[], at: number): number {
  const next = words.findIndex((word, index) => index > at && (word.startsWith('-') || word === '!'));
  return (next < 0 ? words.length : next) - at - 1;
}

function actionOf([option, target = '', ...rest]: readonly string[], chains: ReadonlyMap<string, unknown>): Action {
  if (chains.has(target)) return { kind: option === '-g' ? 'goto' : 'jump', chain: target };
  if (target === 'ACCEPT') return { kind: 'accept' };
  if (target === 'DROP' || target === 'REJECT') return { kind: 'refuse' };
  if (target === 'RETURN') return { kind: 'return' };
  if (PASSING.has(target)) return { kind: 'nothing' };
  if (target === 'MARK') {
    const [, value, mask] = /^(0x[\da-f]+|\d+)(?:\/(0x[\da-f]+|\d+))?$/i.exec(rest[1] ?? '') ?? [];
    if (value === undefined || rest[0] !== '--set-xmark') return { kind: 'unknown', why: `of ${rest.join(' ')}` };
    return { kind: 'mark', value: Number(value), mask: Number(mask ?? 0xffffffff) };
  }
  return { kind: 'unknown', why: `what ${target} does is not known here` };
}

type MatchMaker = (...values: string[]) => Match;

const destinationPorts = (value: string): Match => ports(value, ({ destinationPort }) => [destinationPort]);
const sourcePorts = (value: string): Match => ports(value, ({ sourcePort }) => [sourcePort]);

/** By option; the number of parameters is the number of words behind it. */
const options: Readonly<Record<string, MatchMaker>> = {
  '-s': (value) => address(value, ({ sources }) => sources),
  '-d': (value) => address(value, ({ destinations }) => destinations),
  '--src-range': (value) => address(value, ({ sources }) => sources),
  '--dst-range': (value) => address(value, ({ destinations }) => destinations),
  '-i':
    (value) =>
    ({ inInterface }) =>
      interfaceIs(inInterface, value, '+'),
  '-o':
    (value) =>
    ({ outInterface }) =>
      interfaceIs(outInterface, value, '+'),
  '-p':
    (value) =>
    ({ protocol }) =>
      protocolIs(protocol, value),
  '-f': () => () => false,
  '--dport': destinationPorts,
  '--dports': destinationPorts,
  '--sport': sourcePorts,
  '--sports': sourcePorts,
  '--ports': (value) => ports(value, ({ sourcePort, destinationPort }) => [sourcePort, destinationPort]),
  '--ctstate': states,
  '--state': states,
  '--mark': (value) => (_packet, mark) => markIs(value, mark),
  '--src-type':
    (value) =>
    ({ path }) =>
      path === 'output' ? typeIs(value, 'LOCAL') : typeIs(value, 'UNICAST'),
  '--dst-type':
    (value) =>
    ({ path }) =>
      path === 'input' ? typeIs(value, 'LOCAL') : typeIs(value, 'UNICAST'),
  '--pkt-type': (value) => () => value.toLowerCase() === 'unicast',
  '--syn':
    () =>
    ({ protocol }) =>
      protocol === 'tcp',
  '--tcp-flags': (mask: string, set: string) => () => flagsAre(mask, set),
  '--icmp-type': (_value) => () => false,
  '--icmpv6-type': (_value) => () => false,
};

function address(value: string, of: (packet: Packet) => readonly Extent[]): Match {
  const extent = readExtent(value);
  return (packet) => (extent === null ? cannotTell(`${value} is no address`) : addressAmong(of(packet), [extent]));
}

/** An address, a prefix, an address with a mask in its own notation, or two addresses with a dash between. */
function readExtent(value: string): Extent | null {
  const [first = '', last] = value.split('-');
  if (last !== undefined) {
    const [low, high] = [parseAddress(first), parseAddress(last)];
    return low === null || high === null || typeof low !== typeof high ? null : { low, high };
  }
  const [host = '', mask] = value.split('/');
  const alone = parseAddress(host);
  if (alone === null) return null;
  const bits = typeof alone === 'number' ? 32 : 128;
  const dotted = mask === undefined ? null : parseAddress(mask);
  const length = mask === undefined ? bits : typeof dotted === 'number' ? prefixLength(dotted) : Number(mask);
  const prefix = length === null ? null : parseAnyPrefix(`${formatAddress(alone)}/${length}`);
  return prefix === null ? null : extentOf(prefix);
}

/** Null for a mask with holes. */
function prefixLength(mask: number): number | null {
  const ones = Math.clz32(~mask);
  return ((mask << ones) | 0) === 0 || ones === 32 ? ones : null;
}

function ports(value: string, of: (packet: Packet) => readonly number[]): Match {
  const ranges = value.split(',').map((range): [number, number] => {
    const [first = '', last = first] = range.split(':');
    return [first === '' ? 0 : Number(first), last === '' ? 65535 : Number(last)];
  });
  return (packet) => of(packet).some((port) => portAmong(port, ranges));
}

function states(value: string): Match {
  return () => value.split(',').includes('NEW');
}

function markIs(value: string, mark: number | null): Answer {
  if (mark === null) return cannotTell('the mark is not known');
  const [wanted, mask = 0xffffffff] = value.split('/').map(Number);
  return (mark & mask) >>> 0 === wanted;
}

function typeIs(value: string, type: string): boolean {
  return value.toUpperCase().split(',').includes(type);
}

/** A connection's first packet has SYN alone. */
function flagsAre(mask: string, set: string): boolean {
  const examined = mask.split(',');
  const wanted = set === 'NONE' ? [] : set.split(',');
  const has = (flag: string) => flag === 'SYN' || flag === 'ALL';
  return examined.every((flag) => flag === 'ALL' || has(flag) === (wanted.includes(flag) || wanted.includes('ALL')));
}
