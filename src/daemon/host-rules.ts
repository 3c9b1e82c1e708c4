/** What a host's rules are put together from: traffic rules and blackhole routes of each family that the lease has. */

import { type AnyPrefix, familyOf, sameAnyPrefix } from '../base/address.js';
import { exec } from '../base/exec.js';
import { ipTool, type Run } from '../routes/ip.js';
import { ensureBlackhole, removeBlackhole } from '../routes/links.js';
import { forwardRefusal, readFirewall } from '../routes/rules/forward-refusal.js';
import { createOverlayRules } from '../routes/rules/traffic-rules.js';
import { halvesOf, type Subnets } from '../subnet/lease.js';
import { type NetworkConfig, networksOf } from '../subnet/network-config/config.js';
import { formerNetworks, type PreviousSubnetEnv } from '../subnet/subnet-env.js';
import type { DaemonOptions } from './options.js';
import type { HostRules } from './parts.js';

/** @param run starts the tools; a test puts `ip netns exec NAME` in front */
export function createHostRules(
  { rules }: Pick<DaemonOptions, 'rules'>,
  config: NetworkConfig,
  subnets: Subnets,
  past: PreviousSubnetEnv,
  signal: AbortSignal,
  run: Run = exec,
): HostRules {
  const own = halvesOf(subnets);
  const networks = networksOf(config).flatMap((network) => {
    const subnet = own.find(({ address }) => familyOf(address) === familyOf(network.address));
    return subnet === undefined ? [] : [{ network, subnet }];
  });
  const mode = config.enableNftables ? 'nftables' : 'iptables';
  const wanted = {
    networks,
    masquerade: rules.masquerade,
    randomFully: rules.fullyRandom,
    forward: rules.forward,
    formerNetworks: formerNetworks(past, networksOf(config)),
  };
  const ending: Run = (argv, options) => run(argv, { ...options, signal });
  const traffic = createOverlayRules(mode, wanted, { run: ending });
  const lasting = createOverlayRules(mode, wanted, { run });
  const blackholes = () => (rules.blackhole ? each(own, (subnet) => ensureBlackhole(subnet, ipTool(run))) : none());
  const former = [past.subnet, past.subnetV6].filter((subnet) => subnet !== null);
  // The blackhole of a subnet that is another host's by now would cut that host off from here.
  const stale = former.filter((one) => !rules.blackhole || !own.some((subnet) => sameAnyPrefix(subnet, one)));
  return {
    apply: async () => [
      ...(await traffic.apply()),
      ...(await each(stale, (subnet) => removeBlackhole(subnet, ipTool(run)))),
      ...(await blackholes()),
    ],
    check: async () => [...(await traffic.check()), ...(await blackholes())],
    obstacles: async () => {
      if (!rules.forward) return []; // whoever makes these rules himself knows better
      const firewall = await readFirewall(
        ending,
        networks.map(({ network }) => familyOf(network.address)),
      );
      return networks.flatMap(({ network }) => {
        const refusal = forwardRefusal(network, mode, firewall);
        return refusal === null ? [] : [`forwarded packets are refused: ${refusal.text}; ${refusal.fix}`];
      });
    },
    cleanUp: async () => [
      ...(await lasting.cleanUp()),
      ...(await each(rules.blackhole ? own : [], (subnet) => removeBlackhole(subnet, ipTool(run)))),
    ],
  };
}

async function none(): Promise<readonly string[]> {
  return [];
}

async function each(
  subnets: readonly AnyPrefix[],
  work: (subnet: AnyPrefix) => Promise<readonly string[]>,
): Promise<readonly string[]> {
  const lines: string[] = [];
  for (const subnet of subnets) lines.push(...(await work(subnet)));
  return lines;
}
