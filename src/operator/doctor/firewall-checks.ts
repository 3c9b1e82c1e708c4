import { forwardRefusal, isClosed, isForeign } from '../../routes/rules/forward-refusal.js';
import { ruleTarget, ruleWords, type SavedTable } from '../../routes/rules/iptables-save.js';
import type { NftablesBaseChain } from '../../routes/rules/nftables-ruleset.js';
import { fail, type Judge, ok, warn } from './finding.js';
import type { HostFacts } from './host-facts.js';

/**
 * Hints, not proof: a firewall can be written in more ways than can be judged here. A chain counts as closed when its
 * policy or its last rule refuses everything, and a port or network as let in when some rule that accepts names it.
 */

/** Datagrams of the overlay have to come in. */
export const firewallInput: Judge<HostFacts> = ({ question, iptables, nftables }) => {
  const { port } = question;
  if (port === null) return null;
  const filter = iptables?.tables.get('filter');
  const table = filter !== undefined && isClosed(filter, 'INPUT') && !acceptsPort(filter, port) ? filter : undefined;
  if (table !== undefined) {
    const ufw = [...table.rules.keys()].some((chain) => chain.startsWith('ufw-'));
    return fail(
      `the firewall's INPUT chain refuses what no rule accepts, and no rule accepts UDP port ${port}`,
      ufw ? `ufw allow ${port}/udp` : `iptables -I INPUT -p udp --dport ${port} -j ACCEPT`,
    );
  }
  const closed = nftables?.baseChains.find(
    (chain) => isForeign(chain, 'input') && !nftAcceptsPort(nftables.acceptances, chain, port),
  );
  if (closed === undefined) return ok(`nothing found that would refuse UDP port ${port}`);
  const { family, table: name, name: chain } = closed;
  return fail(
    `the nftables chain ${family} ${name} ${chain} refuses what no rule accepts, and no rule accepts UDP port ${port}`,
    name === 'firewalld'
      ? `firewall-cmd --permanent --add-port=${port}/udp && firewall-cmd --reload`
      : `nft insert rule ${family} ${name} ${chain} udp dport ${port} accept`,
  );
};

/** Packets of containers have to be let through. */
export const firewallForward: Judge<HostFacts> = ({ question, iptables, nftables }) => {
  const { network, rulesMode } = question;
  if (network === null) return null;
  const refusal = forwardRefusal(network, rulesMode, { iptables, nftables });
  if (refusal === null) return ok('nothing found that would refuse forwarded packets of the overlay');
  return (refusal.isSure ? fail : warn)(refusal.text, refusal.fix);
};

/** Two firewalls at once is how rules come to be where nobody looks. */
export const iptablesVariants: Judge<HostFacts> = ({ question, iptables, bothIptables }) => {
  if (question.rulesMode === 'nftables') return null;
  if (iptables === null) {
    return fail(
      'iptables-save is not installed or may not look, and the rules mode is iptables',
      'apt-get install iptables',
    );
  }
  return bothIptables
    ? warn(
        'rules by iptables-legacy and by iptables-nft are in force at once; a packet has to pass both',
        'iptables-legacy-save; iptables-nft-save; then clear the one that nobody uses',
      )
    : ok('one variant of iptables is in use');
};

function acceptsPort(table: SavedTable, port: number): boolean {
  return [...table.rules.values()].flat().some((rule) => {
    if (ruleTarget(rule) !== 'ACCEPT') return false;
    const words = ruleWords(rule);
    const protocol = words[words.indexOf('-p') + 1];
    const named = words[words.findIndex((word) => /^--dports?$|^--destination-ports?$/.test(word)) + 1] as string;
    const ranges = named.split(',').map((range) => range.split(':').map(Number));
    return protocol === 'udp' && ranges.some(([first = NaN, last = first]) => first <= port && port <= last);
  });
}

type Acceptances = NonNullable<HostFacts['nftables']>['acceptances'];

function nftAcceptsPort(acceptances: Acceptances, { family, table }: NftablesBaseChain, port: number): boolean {
  return acceptances.some(
    (one) =>
      one.family === family &&
      one.table === table &&
      (one.protocol === 'udp' || one.protocol === 'th') &&
      one.ports?.some(([first, last]) => first <= port && port <= last),
  );
}
