import { exec } from '../../base/exec.js';
import type { Run } from '../ip.js';
import type { RulesOptions, TrafficRules } from './rules.js';
import { RulesError } from './rules-errors.js';
import { IptablesRules } from './rules-iptables.js';
import { NftablesRules } from './rules-nftables.js';

/** `nftables` when the network configuration says `EnableNFTables`. */
export type RulesMode = 'iptables' | 'nftables';

export interface TrafficRulesSettings {
  /** Starts the tools; a test puts `ip netns exec NAME` in front. */
  readonly run?: Run;
  /** `iptables`, or a variant such as `iptables-legacy`. */
  readonly iptables?: string;
}

/** The masquerade and forward rules of this host in one of the two modes; `apply` and `cleanUp` also clear the other. */
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
      changes.push(...(await tolerant(program, () => rules.apply())));
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
