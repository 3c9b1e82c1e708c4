import { contains, formatPrefix, type Prefix, parsePrefix } from '../../base/ipv4.js';
import { refusesEverything, ruleTarget, ruleWords, type SavedTable } from '../../routes/rules/iptables-save.js';
import type { NftablesBaseChain } from '../../routes/rules/nftables-ruleset.js';
import { type Check, fail, ok, warn } from './finding.js';
import type { HostFacts } from './host-facts.js';

/**
 * Hints, not proof: a firewall can be written in more ways than can be judged here. A chain counts as closed when its
 * policy or its last rule refuses everything, and a port or network as let in when some rule that accepts names it.
 */

/** Datagrams of the overlay have to come in. */
export const firewallInput: Check<HostFacts> = {
  id: 'firewall-input',
  evaluate: ({ question, iptables, nftables }) => {
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
  },
};

/** Packets of containers have to be let through. */
export const firewallForward: Check<HostFacts> = {
  id: 'firewall-forward',
  evaluate: ({ question, iptables, nftables }) => {
    const { network, rulesMode } = question;
    if (network === null) return null;
    const text = formatPrefix(network);
    const filter = iptables?.tables.get('filter');
    if (filter !== undefined && isClosed(filter, 'FORWARD') && !forwardsNetwork(filter, network)) {
      const insert = `iptables -I FORWARD -s ${text} -j ACCEPT && iptables -I FORWARD -d ${text} -j ACCEPT`;
      if (rulesMode === 'nftables') {
        return fail('iptables refuses forwarded packets, whatever nftables accepts', insert);
      }
      const jumps = filter.rules.get('FORWARD')?.some((rule) => ruleTarget(rule) === 'FLANNEL-FWD');
      return jumps
        ? fail('a rule of FORWARD before the jump to FLANNEL-FWD refuses everything', insert)
        : fail(
            'iptables refuses forwarded packets, and there is no jump to FLANNEL-FWD; a running tweed adds it unless ' +
              '--iptables-forward-rules=false',
            insert,
          );
    }
    const closed = nftables?.baseChains.find(
      (chain) => isForeign(chain, 'forward') && !nftAcceptsNetwork(nftables.acceptances, chain, network),
    );
    if (closed === undefined) return ok('nothing found that would refuse forwarded packets of the overlay');
    const { family, table, name } = closed;
    const insert = (field: string) => `nft insert rule ${family} ${table} ${name} ip ${field} ${text} accept`;
    return warn(
      `the nftables chain ${family} ${table} ${name} refuses what no rule accepts, and no rule accepts ${text}`,
      table === 'firewalld'
        ? `firewall-cmd --permanent --zone=trusted --add-source=${text} && firewall-cmd --reload`
        : `${insert('saddr')} && ${insert('daddr')}`,
    );
  },
};

/** Two firewalls at once is how rules come to be where nobody looks. */
export const iptablesVariants: Check<HostFacts> = {
  id: 'iptables-variants',
  evaluate: ({ question, iptables, bothIptables }) => {
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
  },
};

/** Policy DROP, or a last rule that refuses without looking. */
function isClosed(table: SavedTable, chain: string): boolean {
  const rules = table.rules.get(chain) ?? [];
  return table.policies.get(chain) === 'DROP' || rules.some((rule) => refusesEverything(rule, table));
}

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

/** Is there, before the first rule of FORWARD that refuses everything, one that lets the network through? */
function forwardsNetwork(table: SavedTable, network: Prefix): boolean {
  const rules = table.rules.get('FORWARD') ?? [];
  const end = rules.findIndex((rule) => refusesEverything(rule, table));
  return rules.slice(0, end < 0 ? rules.length : end).some((rule) => {
    const target = ruleTarget(rule);
    if (target === 'FLANNEL-FWD') return true;
    const words = ruleWords(rule);
    const source = parsePrefix(words[words.indexOf('-s') + 1] ?? '');
    return target === 'ACCEPT' && source !== null && !words.includes('!') && covers(source, network);
  });
}

function covers(outer: Prefix, inner: Prefix): boolean {
  return outer.length <= inner.length && contains(outer, inner.address);
}

/** A closed chain on this hook which iptables-nft did not make (its chains are judged as iptables shows them). */
function isForeign({ family, table, name, hook, closed }: NftablesBaseChain, wanted: string): boolean {
  const ofIptables = family === 'ip' && table === 'filter' && name === wanted.toUpperCase();
  return hook === wanted && closed && !ofIptables && ['ip', 'inet'].includes(family);
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

function nftAcceptsNetwork(acceptances: Acceptances, { family, table }: NftablesBaseChain, network: Prefix): boolean {
  return acceptances.some(
    (one) =>
      one.family === family &&
      one.table === table &&
      one.addresses.some((text) => {
        const prefix = parsePrefix(text);
        return prefix !== null && covers(prefix, network);
      }),
  );
}
