import {
  type Address,
  type AnyPrefix,
  type Family,
  familyOf,
  formatAnyPrefix,
  hostPrefix,
  parseAddress,
  parseAnyPrefix,
  prefixContains,
} from '../../base/address.js';
import { fail, type Judge, type Judgement, ok, warn } from './finding.js';
import { iptablesChains, type SavedVariant } from './firewall/iptables-rules.js';
import { type NftablesBaseChain, onPath } from './firewall/nftables-rules.js';
import { extentOf, type Packet } from './firewall/packet.js';
import { type BaseChain, type Doubt, type Place, walk } from './firewall/walk.js';
import type { HostFacts } from './host-facts.js';

/** A packet, and how it is let through where a chain refuses it. */
interface Way {
  readonly packet: Packet;
  /** Matches for iptables, for nft, and what ufw and firewalld are told. */
  readonly iptables: readonly string[];
  readonly nft: readonly string[];
  readonly ufw: string;
  readonly firewalld: string;
}

/** Where no datagram of a peer has come from yet. */
const ANY_PORT = 49_152;
const HTTP = 80;
/** So many peers are asked about; a firewall with a rule for each host has them all alike. */
const MOST_PEERS = 64;

/** Datagrams of the overlay have to come in, and go out. */
export const firewallInput: Judge<HostFacts> = (facts) => judgePort(facts, 'input');
export const firewallOutput: Judge<HostFacts> = (facts) => judgePort(facts, 'output');

function judgePort(facts: HostFacts, path: 'input' | 'output'): Judgement | readonly Judgement[] | null {
  const { port, portV6, outerFamilies } = facts.question;
  if (port === null) return null;
  const ways = outerFamilies.map((family) => datagramWay(facts, path, family, family === 4 ? port : (portV6 ?? port)));
  return judgeWays(ways, facts, `rules let ${ways.map(({ packet }) => packet.what).join(' and ')} through`);
}

function datagramWay({ question }: HostFacts, path: 'input' | 'output', family: Family, port: number): Way {
  const { underlay, peers, backend } = question;
  const known = peers
    .slice(0, MOST_PEERS)
    .flatMap(({ publicIp, publicIpv6 }) => [publicIp, publicIpv6 ?? ''])
    .map(parseAddress)
    .filter((address) => address !== null && familyOf(address) === family) as Address[];
  const host = underlay === null ? null : family === 4 ? underlay : underlay.ipv6;
  const network = host === null ? [] : [{ address: host.address, length: host.prefixLength } as AnyPrefix];
  const others = known.length > 0 ? known.map(hostPrefix) : network;
  const own = host === null ? [] : [extentOf(hostPrefix(host.address))];
  const name = underlay?.name ?? null;
  const isIn = path === 'input';
  const by = family === 4 ? '' : ' by IPv6';
  const packet: Packet = {
    what: isIn ? `a peer's datagram to UDP port ${port}${by}` : `a datagram to a peer's UDP port ${port}${by}`,
    path,
    family,
    inInterface: isIn ? name : '',
    outInterface: isIn ? '' : name,
    sources: isIn ? others.map(extentOf) : own,
    destinations: isIn ? own : others.map(extentOf),
    protocol: 'udp',
    sourcePort: backend.type === 'vxlan' ? ANY_PORT : port,
    destinationPort: port,
  };
  return {
    packet,
    iptables: [`-p udp --dport ${port}`],
    nft: [`udp dport ${port}`],
    ufw: isIn ? `ufw allow ${port}/udp` : `ufw allow out ${port}/udp`,
    firewalld: `firewall-cmd --permanent --add-port=${port}/udp && firewall-cmd --reload`,
  };
}

/** Packets of containers have to be let through, both ways and of every family. */
export const firewallForward: Judge<HostFacts> = (facts) => {
  const { network, subnet, device, networkV6, subnetV6, deviceV6 } = facts.question;
  const ways = [
    ...(network === null ? [] : containerWays(facts, network, subnet, device)),
    ...(networkV6 === null ? [] : containerWays(facts, networkV6, subnetV6, deviceV6)),
  ];
  if (ways.length === 0) return null;
  return judgeWays(ways, facts, 'rules let packets of containers through, both ways');
};

function containerWays(
  { question, links }: HostFacts,
  network: AnyPrefix,
  subnet: AnyPrefix | null,
  device: string | null,
): readonly Way[] {
  const family = familyOf(network.address);
  const theirs = question.peers
    .slice(0, MOST_PEERS)
    .flatMap((peer) => [peer.subnet, peer.subnetV6 ?? ''])
    .map(parseAnyPrefix)
    .filter((prefix) => prefix !== null && familyOf(prefix.address) === family) as AnyPrefix[];
  const far = (theirs.length > 0 ? theirs : [network]).map(extentOf);
  const near = [extentOf(subnet ?? network)];
  const bridges = links.filter(
    ({ addresses, name }) =>
      subnet !== null && name !== device && addresses.some(({ address }) => prefixContains(subnet, address)),
  );
  const bridge = bridges.length === 1 ? (bridges[0]?.name ?? null) : null;
  const overlay = device === '' ? null : device;
  const tcp = { path: 'forward', family, protocol: 'tcp', sourcePort: ANY_PORT, destinationPort: HTTP } as const;
  const text = formatAnyPrefix(network);
  const ip = family === 4 ? 'ip' : 'ip6';
  const what = family === 4 ? "a container's packet" : "a container's IPv6 packet";
  const cure = {
    iptables: [`-s ${text}`, `-d ${text}`],
    nft: [`${ip} saddr ${text}`, `${ip} daddr ${text}`],
    ufw: `ufw route allow from ${text} && ufw route allow to ${text}`,
    firewalld: `firewall-cmd --permanent --zone=trusted --add-source=${text} && firewall-cmd --reload`,
  };
  return [
    {
      ...cure,
      packet: {
        ...tcp,
        what: `${what} into the overlay`,
        ...{ inInterface: bridge, outInterface: overlay, sources: near, destinations: far },
      },
    },
    {
      ...cure,
      packet: {
        ...tcp,
        what: `${what} out of the overlay`,
        ...{ inInterface: overlay, outInterface: bridge, sources: far, destinations: near },
      },
    },
  ];
}

/** A chain with what its rules are written by. */
interface Tool {
  readonly chain: BaseChain;
  readonly variant: SavedVariant | null;
  readonly nft: NftablesBaseChain | null;
}

function judgeWays(ways: readonly Way[], facts: HostFacts, fine: string): Judgement | readonly Judgement[] {
  const unknown = ways.find(({ packet }) => variantsFor(packet, facts).length === 0 && facts.nftables === null);
  if (unknown !== undefined) {
    const program = unknown.packet.family === 4 ? 'iptables' : 'ip6tables';
    return warn(
      `what rules refuse cannot be judged: neither ${program}-save nor nft could be asked`,
      'sudo tweed doctor',
    );
  }
  const refusals = new Map<string, Judgement>();
  const doubts = new Map<string, Judgement>();
  for (const way of ways) {
    for (const tool of toolsOf(way.packet, facts)) {
      const passage = walk(tool.chain, way.packet);
      // a rule that refuses or accepts in spite of the doubts is no doubt
      if (passage.verdict === 'refuse' && passage.doubts.length === 0) {
        const place = placeOf(passage.by);
        if (!refusals.has(place)) refusals.set(place, refusal(way, tool, passage.by, facts));
      } else {
        for (const doubt of passage.doubts) {
          const place = placeOf(doubt);
          if (!doubts.has(place)) doubts.set(place, doubtOf(way, tool, doubt));
        }
      }
    }
  }
  const found = [...refusals.values(), ...doubts.values()];
  return found.length === 0 ? ok(fine) : found.slice(0, MOST_FINDINGS);
}

const MOST_FINDINGS = 10;

function variantsFor({ family }: Packet, { iptables, ip6tables }: HostFacts): readonly SavedVariant[] {
  return family === 4 ? iptables : ip6tables;
}

function toolsOf(packet: Packet, facts: HostFacts): readonly Tool[] {
  const variants = variantsFor(packet, facts);
  const saved = variants.flatMap((variant) =>
    iptablesChains(variant, packet.path).map((chain) => ({ chain, variant, nft: null })),
  );
  const native = onPath(facts.nftables ?? [], packet).filter((chain) => !isOfIptables(chain, variants));
  return [...saved, ...native.map((nft) => ({ chain: nft, variant: null, nft }))];
}

/** A chain of iptables-nft is judged as iptables shows it: nft cannot show all of its matches. */
function isOfIptables({ family, table, chain, hook }: NftablesBaseChain, variants: readonly SavedVariant[]): boolean {
  return (
    (family === 'ip' || family === 'ip6') &&
    chain === hook.toUpperCase() &&
    variants.some(({ program, rules }) => {
      return !program.endsWith('-legacy') && rules.tables.has(table) && !rules.incompatible.includes(table);
    })
  );
}

function placeOf({ chain, rule }: Place): string {
  return rule === null ? `the policy of ${chain}` : `rule ${rule.number} of ${chain}`;
}

function described(place: Place): string {
  return place.rule === null ? placeOf(place) : `${placeOf(place)} (${place.rule.text})`;
}

function doubtOf({ packet }: Way, { chain, nft, variant }: Tool, doubt: Doubt): Judgement {
  const does = doubt.would === 'decide' ? 'may decide' : `would ${doubt.would} it`;
  const where = doubt.chain === chain.name ? '' : `, which ${chain.name} leads to`;
  return warn(
    `cannot judge ${placeOf(doubt)}${where} for ${packet.what}: ${doubt.why}, and it ${does}: ${doubt.rule.text}`,
    nft === null
      ? `${variant?.program}-save, and tweed ping HOST from a peer`
      : `nft list table ${nft.family} ${nft.table}, and tweed ping HOST from a peer`,
  );
}

function refusal(way: Way, tool: Tool, by: Place, { question }: HostFacts): Judgement {
  const notes: string[] = [];
  if (way.packet.path === 'forward' && tool.variant !== null) {
    const forward = tool.variant.rules.tables.get('filter')?.rules.get('FORWARD') ?? [];
    const jumps = forward.some((rule) => rule.includes('-j FLANNEL-FWD'));
    if (question.rulesMode === 'nftables') notes.push('iptables refuses it, whatever nftables accepts');
    else if (jumps) notes.push('before the jump to FLANNEL-FWD');
    else {
      notes.push('there is no jump to FLANNEL-FWD; a running tweed adds it unless --iptables-forward-rules=false');
    }
  }
  return fail(
    `${way.packet.what} is refused by ${described(by)}${notes.map((note) => `; ${note}`).join('')}`,
    cureOf(way, tool),
  );
}

function cureOf(way: Way, { chain, variant, nft }: Tool): string {
  if (nft !== null) {
    const { family, table, chain: name } = nft;
    if (table === 'firewalld') return way.firewalld;
    return way.nft.map((match) => `nft insert rule ${family} ${table} ${name} ${match} accept`).join(' && ');
  }
  if ([...chain.chains.keys()].some((name) => name.startsWith('ufw-'))) return way.ufw;
  const [, ...words] = chain.name.split(' '); // maybe -t TABLE, then the chain
  const [name = '', ...table] = [...words].reverse();
  const insert = [variant?.program, ...table.reverse(), '-I', name].join(' ');
  return way.iptables.map((match) => `${insert} ${match} -j ACCEPT`).join(' && ');
}

/** Two firewalls at once is how rules come to be where nobody looks. */
export const iptablesVariants: Judge<HostFacts> = ({ question, iptables, bothIptables }) => {
  if (question.rulesMode === 'nftables') return null;
  if (iptables.length === 0) {
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
