/**
 * Masquerade and forward rules: what is wanted, free of any tool.
 *
 * rules-iptables.ts and rules-nftables.ts write the same rules in the words of their tool, so that the two modes
 * cannot come to mean different things. traffic-rules.ts chooses between them.
 */
import type { Prefix } from '../../base/ipv4.js';
import { parsePrefix } from '../../base/ipv4.js';

export interface RulesOptions {
  /** The overlay's network. */
  readonly network: Prefix;
  /** This host's own subnet. */
  readonly subnet: Prefix;
  /** `--ip-masq`. */
  readonly masquerade: boolean;
  /** Let the kernel pick source ports wholly at random; off with `--ip-masq-fully-random-disable`. */
  readonly randomFully: boolean;
  /** `--iptables-forward-rules`. */
  readonly forward: boolean;
}

/** Rules in force on one host, by one tool. */
export interface TrafficRules {
  /**
   * Puts the wanted rules in force and takes away those of an earlier network, subnet or mode. Rules that are right
   * already are left alone. Returns one line of text for each change.
   */
  apply(): Promise<readonly string[]>;
  /** Puts back what another program took away or changed, at the price of one process when nothing was. */
  check(): Promise<readonly string[]>;
  /** Removes every rule of tweed and flanneld, of either mode. */
  cleanUp(): Promise<readonly string[]>;
}

export interface AddressMatch {
  readonly prefix: Prefix;
  readonly negated: boolean;
}

export type Verdict = 'accept' | 'return' | 'masquerade' | 'masquerade fully random';

export interface Rule {
  /** Matches packets whose mark has all these bits. */
  readonly mark?: number;
  readonly source?: AddressMatch;
  readonly destination?: AddressMatch;
  readonly verdict: Verdict;
}

/** Set by Kubernetes (kube-proxy) on packets that it masquerades itself. */
const masqueradedElsewhere = 0x4000;
const multicast = parsePrefix('224.0.0.0/4') as Prefix;

const within = (prefix: Prefix): AddressMatch => ({ prefix, negated: false });
const outside = (prefix: Prefix): AddressMatch => ({ prefix, negated: true });

/**
 * What leaves a container for the world gets the host's address, and so does what the world sends into the overlay
 * through this host; traffic within the overlay keeps its addresses, and so does what arrives for this host's own
 * containers, whoever sent it.
 */
export function masqueradeRules({ network, subnet, randomFully }: RulesOptions): readonly Rule[] {
  const masquerade = randomFully ? 'masquerade fully random' : 'masquerade';
  return [
    { mark: masqueradedElsewhere, verdict: 'return' },
    { source: within(subnet), destination: within(network), verdict: 'return' },
    { source: within(network), destination: within(subnet), verdict: 'return' },
    { source: outside(network), destination: within(subnet), verdict: 'return' },
    { source: within(network), destination: outside(multicast), verdict: masquerade },
    { source: outside(network), destination: within(network), verdict: masquerade },
  ];
}

/** Lets the overlay's traffic through a host whose policy for forwarded packets is DROP. */
export function forwardRules({ network }: RulesOptions): readonly Rule[] {
  return [
    { source: within(network), verdict: 'accept' },
    { destination: within(network), verdict: 'accept' },
  ];
}
