/**
 * The packet that a firewall is asked about, and the questions that rules ask of it.
 *
 * A question has three answers: yes, no, and "cannot be told", with the reason: a match that is not known here, or one that
 * holds for some of the packets only, such as for one container of a subnet.
 */
import { type Address, type AnyPrefix, type Family, familyOf, isIpv4Prefix } from '../../../base/address.js';

export type Answer = true | false | { readonly why: string };

export const cannotTell = (why: string): Answer => ({ why });

export function not(answer: Answer): Answer {
  return typeof answer === 'boolean' ? !answer : answer;
}

/** No, where one of them says no; else the first that cannot be told; else yes. */
export function allOf(answers: Iterable<Answer>): Answer {
  let doubt: Answer = true;
  for (const answer of answers) {
    if (answer === false) return false;
    if (answer !== true && doubt === true) doubt = answer;
  }
  return doubt;
}

/** Addresses from `low` to `high`, both included and of one family. */
export interface Extent {
  readonly low: Address;
  readonly high: Address;
}

/** @param prefix may have host bits */
export function extentOf(prefix: AnyPrefix): Extent {
  if (isIpv4Prefix(prefix)) {
    const { address, length } = prefix;
    const low = length === 0 ? 0 : (address & (-1 << (32 - length))) >>> 0;
    return { low, high: low + 2 ** (32 - length) - 1 };
  }
  const { address, length } = prefix;
  const rest = BigInt(128 - length);
  const low = (address >> rest) << rest;
  return { low, high: low + (1n << rest) - 1n };
}

/** A new connection's first packet, as the host's rules see it. */
export interface Packet {
  /** What it is, for a message. */
  readonly what: string;
  readonly path: 'input' | 'output' | 'forward';
  readonly family: Family;
  /** Empty: none on this path; null: which one is not known. */
  readonly inInterface: string | null;
  readonly outInterface: string | null;
  /** Where it may come from and go to; empty: not known. A rule that holds for some of them only is in doubt. */
  readonly sources: readonly Extent[];
  readonly destinations: readonly Extent[];
  readonly protocol: 'udp' | 'tcp';
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** Are the packet's addresses among the rule's? */
export function addressAmong(packet: readonly Extent[], rule: readonly Extent[]): Answer {
  if (packet.length === 0) return rule.some(isEverything) ? true : cannotTell('the address is not known');
  const one = (extent: Extent): Answer => {
    const same = rule.filter(({ low }) => familyOf(low) === familyOf(extent.low));
    if (same.some(({ low, high }) => low <= extent.low && extent.high <= high)) return true;
    return same.some(({ low, high }) => low <= extent.high && extent.low <= high) ? cannotTell(SOME) : false;
  };
  const answers = packet.map(one);
  if (answers.every((answer) => answer === true)) return true;
  return answers.every((answer) => answer === false) ? false : cannotTell(SOME);
}

const SOME = 'it is for some of these addresses only';

function isEverything({ low, high }: Extent): boolean {
  return (low === 0 && high === 2 ** 32 - 1) || (low === 0n && high === (1n << 128n) - 1n);
}

/** Does the interface's name fit? @param wildcard what stands at the end of a pattern for any further characters */
export function interfaceIs(name: string | null, pattern: string, wildcard: '+' | '*'): Answer {
  if (pattern === wildcard) return true;
  if (name === null) return pattern === 'lo' ? false : cannotTell('the interface is not known'); // not ourselves
  return pattern.endsWith(wildcard) ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
}

export function portAmong(port: number, ranges: readonly (readonly [number, number])[]): boolean {
  return ranges.some(([first, last]) => first <= port && port <= last);
}

/** IANA's numbers of the protocols that rules name. */
const numbers: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, ipv6: 41, icmpv6: 58, 'ipv6-icmp': 58 };

/** By name or number; one that is not known is another one. */
export function protocolIs(protocol: Packet['protocol'], text: string): boolean {
  const named = text.toLowerCase();
  return named === 'all' || named === '0' || (numbers[named] ?? Number(named)) === numbers[protocol];
}
