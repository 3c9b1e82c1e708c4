import { familyOf } from '../../base/address.js';
import { messageOf } from '../../base/errors.js';
import { exec } from '../../base/exec.js';
import type { Run } from '../ip.js';
import { type OverlayRulesOptions, type RulesOptions, rulesByFamily, type TrafficRules } from './rules.js';
import { RulesError } from './rules-errors.js';
import { IptablesRules, iptablesProgram } from './rules-iptables.js';
import { NftablesRules } from './rules-nftables.js';

/** `nftables` when the network configuration says `EnableNFTables`. */
export type RulesMode = 'iptables' | 'nftables';

export interface TrafficRulesSettings {
  /** Starts the tools; a test puts `ip netns exec NAME` in front. */
  readonly run?: Run;
  /** `iptables`, or a variant such as `iptables-legacy`; for IPv6 the program of the same variant is taken. */
  readonly iptables?: string;
}

/**
 * The rules of every family that the overlay has, or had. One family after the other, since both wait for the same lock;
 * what fails for one is told when the other is done.
 */
export function createOverlayRules(
  mode: RulesMode,
  options: OverlayRulesOptions,
  settings: TrafficRulesSettings = {},
): TrafficRules {
  const families = rulesByFamily(options).map((one) => createTrafficRules(mode, one, settings));
  const each = async (call: (rules: TrafficRules) => Promise<readonly string[]>) => {
    const changes: string[] = [];
    const failures: unknown[] = [];
    for (const rules of families) {
      try {
        changes.push(...(await call(rules)));
      } catch (thrown) {
        failures.push(thrown);
      }
    }
    const [first, second] = failures;
    if (first === undefined) return changes;
    if (second === undefined || messageOf(second) === messageOf(first)) throw first;
    throw new RulesError('RULES_FAILED', `${messageOf(first)}; and for IPv6: ${messageOf(second)}`, { cause: first });
  };
  return {
    apply: () => each((rules) => rules.apply()),
    check: () => each((rules) => rules.check()),
    cleanUp: () => each((rules) => rules.cleanUp()),
  };
}

/** The masquerade and forward rules of one family in one of the two modes; `apply` and `cleanUp` also clear the other. */
export function createTrafficRules(
  mode: RulesMode,
  options: RulesOptions,
  { run = exec, iptables = 'iptables' }: TrafficRulesSettings = {},
): TrafficRules {
  const nothing = { ...options, masquerade: false, forward: false };
  const clearNftables = () => tolerant('nftables', () => new NftablesRules({ options: nothing, run }).apply());
  const clearIptables = async (...programs: readonly string[]) => {
    const changes: string[] = [];
    for (const program of programs) {
      const rules = new IptablesRules({ options: nothing, run, program });
      changes.push(
        ...(await tolerant(iptablesProgram(familyOf(options.network.address), program), () => rules.apply())),
      );
    }
    return changes;
  };
  // Hosts with iptables older than 1.8 have no variants, only the plain name.
  const clearAllIptables = () => clearIptables(iptables, 'iptables-legacy', 'iptables-nft');
  const cleanUp = async () => [...(await clearNftables()), ...(await clearAllIptables())];
  // Then no tool is needed, and none needs to be installed.
  if (!options.masquerade && !options.forward) return { apply: cleanUp, check: async () => [], cleanUp };

  if (mode === 'nftables') {
    const own = new NftablesRules({ options, run });
    const apply = async () => [...(await clearAllIptables()), ...(await own.apply())];
    return { apply, check: () => own.check(), cleanUp };
  }
  const own = new IptablesRules({ options, run, program: iptables });
  const apply = async () => {
    // A host can have rules by both variants at once, made before and after a change of its distribution's default.
    const other = (await own.identify()).variant === 'nft' ? 'iptables-legacy' : 'iptables-nft';
    return [...(await clearNftables()), ...(await clearIptables(other)), ...(await own.apply())];
  };
  return { apply, check: () => own.check(), cleanUp };
}

/**
 * What is not wanted must not stand in the way of what is. A tool that is not installed, or that the kernel cannot
 * serve, has no rules in force; any other failure is told.
 */
async function tolerant(what: string, action: () => Promise<readonly string[]>): Promise<readonly string[]> {
  try {
    return await action();
  } catch (thrown) {
    if (!(thrown instanceof RulesError)) throw thrown;
    return thrown.nothingInForce ? [] : [`could not look for old rules of ${what}: ${thrown.message}`];
  }
}
