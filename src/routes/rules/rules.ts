/**
 * Masquerade and forward rules: what is wanted, and whose a rule is that stands there; free of any tool.
 *
 * rules-iptables.ts and rules-nftables.ts write the same rules in the words of their tool, so that the two modes
 * cannot come to mean different things. traffic-rules.ts chooses between them.
 *
 * A host can have several overlays, each with a daemon of its own, tweed or flanneld, and all of them write to the same
 * two chains. So a daemon owns rules, not chains: those that name addresses of its network. What names addresses of
 * another network is another daemon's; what names none is wanted by all of them, or was put there by somebody who has no
 * business in these chains.
 */
import {
  type AnyPrefix,
  type Family,
  familyOf,
  parseAnyPrefix,
  prefixCovers,
  sameAnyPrefix,
} from '../../base/address.js';

export interface RulesOptions extends RulesSwitches {
  /** The overlay's network of one family, which is that of all these rules. */
  readonly network: AnyPrefix;
  /** This host's own subnet in it. */
  readonly subnet: AnyPrefix;
  /** Networks of this overlay in an earlier life: rules for them go when `apply` is called. */
  readonly formerNetworks?: readonly AnyPrefix[];
}

/** What is wanted of the rules of either family. */
export interface RulesSwitches {
  /** `--ip-masq`. */
  readonly masquerade: boolean;
  /** Let the kernel pick source ports wholly at random; off with `--ip-masq-fully-random-disable`. */
  readonly randomFully: boolean;
  /** `--iptables-forward-rules`. */
  readonly forward: boolean;
}

/** What is wanted of both families. */
export interface OverlayRulesOptions extends RulesSwitches {
  /** The overlay's network of each family that it has, with this host's own subnet in it. */
  readonly networks: readonly Pick<RulesOptions, 'network' | 'subnet'>[];
  /** Of either family. */
  readonly formerNetworks: readonly AnyPrefix[];
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
  /** Removes every rule of this overlay, of either mode, and the chains that are empty then. */
  cleanUp(): Promise<readonly string[]>;
}

export interface AddressMatch {
  readonly prefix: AnyPrefix;
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

/** The rules of one chain. Those that name no address come first and serve every overlay. */
export interface ChainRules {
  readonly shared: readonly Rule[];
  readonly own: readonly Rule[];
}

/** A rule that stands in a chain. */
export interface StandingRule {
  /** Canonical: what means the same has the same text. */
  readonly text: string;
  /** Sources and destinations that it names. */
  readonly addresses: readonly AnyPrefix[];
}

/** What makes a chain right. */
export interface ChainPlan {
  /** Rules to take away, by their place. */
  readonly remove: readonly number[];
  /** Shared rules to put at the head, by their place among those. */
  readonly insert: readonly number[];
  /** Put all of our own at the end. */
  readonly append: boolean;
  /** Rules of other overlays stand there too, so the chain is not ours to remove. */
  readonly isShared: boolean;
}

/**
 * Compares a chain with the rules that this overlay wants in it; with none, those that there are go.
 *
 * Own rules stay together and in order, behind the shared ones. Where they do not, they are written anew, all of them.
 *
 * @param networks of this overlay; what names addresses inside is its own
 */
export function planChain(
  present: readonly StandingRule[],
  wanted: { readonly shared: readonly string[]; readonly own: readonly string[] },
  networks: readonly AnyPrefix[],
): ChainPlan {
  const isOurs = (rule: StandingRule) => belongsTo(rule, networks);
  const isWanted = wanted.own.length > 0;
  const placesOf = (which: (rule: StandingRule) => boolean) => present.flatMap((rule, at) => (which(rule) ? [at] : []));
  const ours = placesOf(isOurs);
  const strays = placesOf(({ text, addresses }) => isWanted && addresses.length === 0 && !wanted.shared.includes(text));
  const right = ours.length === wanted.own.length && ours.every((at, index) => present[at]?.text === wanted.own[index]);
  const append = isWanted && !right;
  const first = append ? present.length : (ours[0] ?? present.length);
  const missing = wanted.shared.flatMap((text, index) =>
    present.slice(0, first).some((rule) => rule.text === text) ? [] : [index],
  );
  return {
    remove: right ? strays : [...ours, ...strays].sort((a, b) => a - b),
    insert: isWanted ? missing : [],
    append,
    isShared: present.some((rule) => rule.addresses.length > 0 && !isOurs(rule)),
  };
}

/** Does the rule name addresses of one of these networks? */
export function belongsTo({ addresses }: StandingRule, networks: readonly AnyPrefix[]): boolean {
  return addresses.some((one) => networks.some((network) => prefixCovers(network, one)));
}

/** Every overlay has it in its rules, so it is nobody's address. */
export function isMulticast(prefix: AnyPrefix): boolean {
  return sameAnyPrefix(prefix, multicast[familyOf(prefix.address)]);
}

/** Set by Kubernetes (kube-proxy) on packets that it masquerades itself. */
const masqueradedElsewhere = 0x4000;
const multicast: Readonly<Record<Family, AnyPrefix>> = {
  4: parseAnyPrefix('224.0.0.0/4') as AnyPrefix,
  6: parseAnyPrefix('ff00::/8') as AnyPrefix,
};

const within = (prefix: AnyPrefix): AddressMatch => ({ prefix, negated: false });
const outside = (prefix: AnyPrefix): AddressMatch => ({ prefix, negated: true });

/**
 * What leaves a container for the world gets the host's address, and so does what the world sends into the overlay
 * through this host; traffic within the overlay keeps its addresses, and so does what arrives for this host's own
 * containers, whoever sent it.
 */
export function masqueradeRules({ network, subnet, masquerade, randomFully }: RulesOptions): ChainRules {
  const verdict = randomFully ? 'masquerade fully random' : 'masquerade';
  const own: readonly Rule[] = [
    { source: within(subnet), destination: within(network), verdict: 'return' },
    { source: within(network), destination: within(subnet), verdict: 'return' },
    { source: outside(network), destination: within(subnet), verdict: 'return' },
    { source: within(network), destination: outside(multicast[familyOf(network.address)]), verdict },
    { source: outside(network), destination: within(network), verdict },
  ];
  return { shared: [{ mark: masqueradedElsewhere, verdict: 'return' }], own: masquerade ? own : [] };
}

/** Lets the overlay's traffic through a host whose policy for forwarded packets is DROP. */
export function forwardRules({ network, forward }: RulesOptions): ChainRules {
  const own: readonly Rule[] = [
    { source: within(network), verdict: 'accept' },
    { destination: within(network), verdict: 'accept' },
  ];
  return { shared: [], own: forward ? own : [] };
}

/**
 * The rules of each family on its own. A family that the overlay had formerly, and has no more, gets options that want
 * nothing, so that its rules go.
 */
export function rulesByFamily({ networks, formerNetworks, ...switches }: OverlayRulesOptions): readonly RulesOptions[] {
  return ([4, 6] as const).flatMap((family): readonly RulesOptions[] => {
    const former = formerNetworks.filter(({ address }) => familyOf(address) === family);
    const today = networks.find(({ network }) => familyOf(network.address) === family);
    if (today !== undefined) return [{ ...switches, ...today, formerNetworks: former }];
    const [network, ...others] = former;
    if (network === undefined) return [];
    return [
      { network, subnet: network, formerNetworks: others, masquerade: false, randomFully: false, forward: false },
    ];
  });
}
