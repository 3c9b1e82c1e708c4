import { describe, expect, it } from 'vitest';
import { type Prefix, parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import { iptablesChains } from '../../../src/operator/doctor/firewall/iptables-rules.js';
import { nftablesChains, onPath } from '../../../src/operator/doctor/firewall/nftables-rules.js';
import { extentOf, type Packet } from '../../../src/operator/doctor/firewall/packet.js';
import { type BaseChain, walk } from '../../../src/operator/doctor/firewall/walk.js';
import { parseSavedRules } from '../../../src/routes/rules/iptables-save.js';

const extent = (text: string) => extentOf(parsePrefix(text) as Prefix);

const datagram: Packet = {
  what: 'a datagram',
  path: 'input',
  family: 4,
  inInterface: 'eth0',
  outInterface: '',
  sources: [extent('192.0.2.11/32'), extent('192.0.2.12/32')],
  destinations: [{ low: parseIpv4('192.0.2.10') as number, high: parseIpv4('192.0.2.10') as number }],
  protocol: 'udp',
  sourcePort: 8285,
  destinationPort: 8285,
};
/** From another host's containers into this one's. */
const forwarded: Packet = {
  what: 'a packet',
  path: 'forward',
  family: 4,
  inInterface: 'flannel0',
  outInterface: 'docker0',
  sources: [extent('10.5.9.0/24')],
  destinations: [extent('10.5.8.0/24')],
  protocol: 'tcp',
  sourcePort: 49152,
  destinationPort: 80,
};

/** The outcome of all chains in words: `accept`, `refuse BY RULE`, or `cannot judge RULE`. */
function outcome(chains: readonly BaseChain[], packet: Packet): string {
  for (const chain of chains) {
    const { verdict, by, doubts } = walk(chain, packet);
    const [doubt] = doubts;
    if (doubt !== undefined) return `cannot judge ${doubt.chain} ${doubt.rule.number}`;
    if (verdict === 'refuse') return `refuse ${by.chain} ${by.rule?.number ?? 'policy'}`;
  }
  return 'accept';
}

const tables = (text: string) =>
  text.startsWith('*')
    ? text
    : `*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n${text}\nCOMMIT\n`;
const iptables = (text: string, packet: Packet) =>
  outcome(iptablesChains({ program: 'iptables', rules: parseSavedRules(tables(text)) }, packet.path), packet);

describe('a datagram of a peer through iptables', () => {
  it.each<[string, string]>([
    ['', 'accept'],
    ['-A INPUT -p udp -m udp --dport 8285 -j DROP', 'refuse iptables INPUT 1'],
    ['-A INPUT -i eth0 -p udp -j REJECT --reject-with icmp-port-unreachable', 'refuse iptables INPUT 1'],
    ['-A INPUT -i eth+ -p udp -j DROP', 'refuse iptables INPUT 1'],
    ['-A INPUT -i eth1 -p udp -j DROP', 'accept'],
    ['-A INPUT ! -i lo -p 17 -j DROP', 'refuse iptables INPUT 1'],
    ['-A INPUT -p tcp -m tcp --dport 8285 -j DROP', 'accept'],
    ['-A INPUT -p udp -m udp --dport 53 -j DROP', 'accept'],
    ['-A INPUT -p udp -m udp --dport 8000:9000 -j DROP', 'refuse iptables INPUT 1'],
    ['-A INPUT -p udp -m udp ! --dport 53 -j DROP', 'refuse iptables INPUT 1'],
    ['-A INPUT -p udp -m multiport --dports 53,8285 -j DROP', 'refuse iptables INPUT 1'],
    ['-A INPUT -p udp -m multiport ! --dports 53,8285 -j DROP', 'accept'],
    ['-A INPUT -p udp -m udp --sport 53 -j ACCEPT\n-A INPUT -j DROP', 'refuse iptables INPUT 2'],
    ['-A INPUT -s 192.0.2.0/24 -j ACCEPT\n-A INPUT -j DROP', 'accept'],
    ['-A INPUT -s 192.0.2.0/255.255.255.0 -j DROP', 'refuse iptables INPUT 1'],
    ['-A INPUT -s 198.51.100.0/24 -j DROP', 'accept'],
    ['-A INPUT ! -s 192.0.2.0/24 -j DROP', 'accept'],
    ['-A INPUT -m iprange --src-range 192.0.2.1-192.0.2.200 -j DROP', 'refuse iptables INPUT 1'],
    ['-A INPUT -d 192.0.2.10/32 -j DROP', 'refuse iptables INPUT 1'],
    ['-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -j DROP', 'refuse iptables INPUT 2'],
    ['-A INPUT -m state --state NEW -j DROP', 'refuse iptables INPUT 1'],
    ['-A INPUT -m conntrack --ctstate INVALID -j DROP', 'accept'],
    ['-A INPUT -m conntrack ! --ctstate ESTABLISHED -j DROP', 'refuse iptables INPUT 1'],
    ['-A INPUT -m mark --mark 0x8000/0x8000 -j DROP', 'accept'],
    ['-A INPUT -m mark ! --mark 0x1 -j DROP', 'refuse iptables INPUT 1'],
    [
      '-A INPUT -j MARK --set-xmark 0x8000/0x8000\n-A INPUT -m mark --mark 0x8000/0x8000 -j DROP',
      'refuse iptables INPUT 2',
    ],
    ['-A INPUT -m addrtype ! --dst-type LOCAL -j DROP', 'accept'],
    ['-A INPUT -m comment --comment "-j DROP -p udp" -j LOG --log-prefix "x -j DROP"', 'accept'],
    ['-A INPUT -p udp\n-A INPUT -p icmp -m icmp --icmp-type 8 -j DROP', 'accept'],
    // what cannot be told is said, and only where it matters
    ['-A INPUT -m set --match-set blocked src -j DROP', 'cannot judge iptables INPUT 1'],
    ['-A INPUT -p tcp -m set --match-set blocked src -j DROP', 'accept'],
    ['-A INPUT -m set --match-set friends src -j ACCEPT', 'accept'],
    ['-A INPUT -m set --match-set friends src -j ACCEPT\n-A INPUT -j DROP', 'cannot judge iptables INPUT 1'],
    ['-A INPUT -m set --match-set blocked src -j DROP\n-A INPUT -j DROP', 'refuse iptables INPUT 2'],
    ['-A INPUT -s 192.0.2.11/32 -j DROP', 'cannot judge iptables INPUT 1'],
    ['-A INPUT -m limit --limit 5/sec -j ACCEPT\n-A INPUT -j DROP', 'cannot judge iptables INPUT 1'],
    ['-A INPUT -m limit --limit 5/sec -j LOG', 'accept'],
    ['-A INPUT -j NFQUEUE --queue-num 0', 'cannot judge iptables INPUT 1'],
    ['-A INPUT -p udp -m string --string "x" --algo bm -j RETURN\n-A INPUT -j DROP', 'cannot judge iptables INPUT 1'],
    // chains
    [':A - [0:0]\n-A INPUT -j A\n-A A -p udp -j DROP', 'refuse A 1'],
    [':A - [0:0]\n-A INPUT -j A\n-A INPUT -j DROP\n-A A -p udp -j RETURN\n-A A -j ACCEPT', 'refuse iptables INPUT 2'],
    [':A - [0:0]\n-A INPUT -g A\n-A INPUT -j DROP\n-A A -p tcp -j DROP', 'accept'],
    [':A - [0:0]\n-A INPUT -m set --match-set x src -j A\n-A A -j DROP', 'cannot judge iptables INPUT 1'],
    [':A - [0:0]\n-A INPUT -m set --match-set x src -j A\n-A A -p tcp -j DROP', 'accept'],
    [':A - [0:0]\n-A INPUT -j A\n-A A -j A', 'cannot judge A 1'],
    ['*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p udp -j DROP\nCOMMIT', 'refuse iptables -t raw PREROUTING 1'],
    ['*mangle\n:INPUT DROP [0:0]\nCOMMIT', 'refuse iptables -t mangle INPUT policy'],
    ['*nat\n:PREROUTING DROP [0:0]\n-A PREROUTING -j DROP\nCOMMIT', 'accept'],
  ])('%j: %s', (rules, expected) => expect(iptables(rules, datagram)).toBe(expected));

  it('does not end its days in chains that call each other', () => {
    const chains = Array.from({ length: 30 }, (_, index) => `C${index}`);
    const jumps = chains.slice(1).flatMap((name, index) => [`-A C${index} -j ${name}`, `-A C${index} -j ${name}`]);
    const text = [...chains.map((name) => `:${name} - [0:0]`), '-A INPUT -j C0', ...jumps, '-A C29 -p tcp -j DROP'];
    expect(iptables(text.join('\n'), datagram)).toMatch(/^cannot judge/);
  });
});

const ufw = `*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-after-input - [0:0]
:ufw-not-local - [0:0]
:ufw-skip-to-policy-input - [0:0]
:ufw-logging-deny - [0:0]
:ufw-user-input - [0:0]
:ufw-user-forward - [0:0]
-A INPUT -j ufw-before-input
-A INPUT -j ufw-after-input
-A FORWARD -j ufw-user-forward
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-input -p udp -m udp --sport 67 --dport 68 -j ACCEPT
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -d 224.0.0.251/32 -p udp -m udp --dport 5353 -j ACCEPT
-A ufw-before-input -j ufw-user-input
-A ufw-after-input -p udp -m udp --dport 137 -j ufw-skip-to-policy-input
-A ufw-logging-deny -m conntrack --ctstate INVALID -m limit --limit 3/min --limit-burst 10 -j RETURN
-A ufw-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j ufw-logging-deny
-A ufw-not-local -j DROP
-A ufw-skip-to-policy-input -j DROP
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
`;
const docker = `*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
:FLANNEL-FWD - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
`;
const flannel = `-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
`;
const kube = `*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FIREWALL -m comment --comment "kubernetes firewall for dropping marked packets" -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
`;
const raw28 = docker.replace('COMMIT', '-A PREROUTING -d 10.5.8.2/32 ! -i docker0 -j DROP\nCOMMIT');

describe('firewalls as they are made', () => {
  it.each<[string, string, Packet, string]>([
    ['ufw', ufw, datagram, 'refuse iptables INPUT policy'],
    ['ufw, opened', `${ufw}-A ufw-user-input -p udp -m udp --dport 8285 -j ACCEPT\n`, datagram, 'accept'],
    [
      'ufw, denied',
      `${ufw}-A ufw-user-input -p udp -m udp --dport 8285 -j DROP\n`,
      datagram,
      'refuse ufw-user-input 2',
    ],
    ['ufw', ufw, forwarded, 'refuse iptables FORWARD policy'],
    ['docker', docker, datagram, 'accept'],
    ['docker without our rules', docker, forwarded, 'refuse iptables FORWARD policy'],
    ['docker', docker + flannel, forwarded, 'accept'],
    ['docker, a user’s rule', `${docker}${flannel}-A DOCKER-USER -i flannel0 -j DROP\n`, forwarded, 'accept'],
    ['docker 28, a container with a port', raw28 + flannel, forwarded, 'cannot judge iptables -t raw PREROUTING 1'],
    ['kube', kube, datagram, 'accept'],
    ['kube', kube, forwarded, 'accept'],
  ])('%s', (_, rules, packet, expected) => expect(iptables(rules, packet)).toBe(expected));
});

describe('through nftables', () => {
  const chain = (name: string, hook: string, policy = 'accept') => ({
    chain: { family: 'inet', table: 't', name, hook, policy, prio: 0, type: 'filter' },
  });
  const is = (left: object, right: unknown, op = '==') => ({ match: { op, left, right } });
  const payload = (protocol: string, field: string) => ({ payload: { protocol, field } });
  const meta = (key: string) => ({ meta: { key } });
  const state = { ct: { key: 'state' } };
  const named = [
    {
      set: {
        family: 'inet',
        table: 't',
        name: 's',
        type: 'ipv4_addr',
        elem: [{ prefix: { addr: '192.0.2.0', len: 24 } }],
      },
    },
    {
      map: {
        family: 'inet',
        table: 't',
        name: 'm',
        type: 'inet_service',
        map: 'verdict',
        elem: [[8285, { drop: null }]],
      },
    },
  ];
  const nft = (packet: Packet, policy: string, ...rules: [string, ...unknown[]][]) => {
    const listed = [
      chain('in', 'input', policy),
      chain('fwd', 'forward', policy),
      { chain: { family: 'inet', table: 't', name: 'sub' } },
      ...named,
      ...rules.map(([of, ...expr]) => ({ rule: { family: 'inet', table: 't', chain: of, expr } })),
    ];
    return outcome(onPath(nftablesChains(JSON.stringify({ nftables: listed })), packet), packet);
  };
  const [accept, drop] = [{ accept: null }, { drop: null }];
  const port = payload('udp', 'dport');

  it.each<[string, string, [string, ...unknown[]][], string]>([
    ['nothing', 'accept', [], 'accept'],
    ['a closed policy', 'drop', [], 'refuse nftables inet t in policy'],
    ['a port', 'accept', [['in', is(port, 8285), drop]], 'refuse nftables inet t in 1'],
    ['another protocol', 'accept', [['in', is(payload('tcp', 'dport'), 8285), drop]], 'accept'],
    [
      'any transport',
      'accept',
      [['in', is(payload('th', 'dport'), { set: [1, { range: [8000, 9000] }] }), drop]],
      'refuse nftables inet t in 1',
    ],
    [
      'an interface',
      'accept',
      [['in', is(meta('iifname'), 'eth*'), { counter: {} }, { reject: null }]],
      'refuse nftables inet t in 1',
    ],
    [
      'another one',
      'accept',
      [['in', is(meta('iifname'), 'lo', '!='), is(meta('l4proto'), { set: ['tcp', 'udp'] }), drop]],
      'refuse nftables inet t in 1',
    ],
    [
      'states in a map',
      'drop',
      [
        [
          'in',
          {
            vmap: {
              key: state,
              data: {
                set: [
                  ['established', accept],
                  ['invalid', drop],
                ],
              },
            },
          },
        ],
      ],
      'refuse nftables inet t in policy',
    ],
    ['a new state', 'drop', [['in', is(state, ['new', 'related'], 'in'), accept]], 'accept'],
    ['a set by its name', 'drop', [['in', is(payload('ip', 'saddr'), '@s'), accept]], 'accept'],
    [
      'a set that is not there',
      'drop',
      [['in', is(payload('ip', 'saddr'), '@gone'), accept]],
      'cannot judge nftables inet t in 1',
    ],
    ['a map by its name', 'accept', [['in', { vmap: { key: port, data: '@m' } }]], 'refuse nftables inet t in 1'],
    [
      'addresses',
      'accept',
      [['in', is(payload('ip', 'saddr'), { prefix: { addr: '192.0.2.0', len: 24 } }, '!='), drop]],
      'accept',
    ],
    [
      'a range of them',
      'accept',
      [['in', is(payload('ip', 'saddr'), { range: ['192.0.2.1', '192.0.2.99'] }), drop]],
      'refuse nftables inet t in 1',
    ],
    ['addresses of the other family', 'accept', [['in', is(payload('ip6', 'saddr'), 'fe80::1'), drop]], 'accept'],
    [
      'both at once',
      'accept',
      [['in', is({ concat: [meta('iifname'), port] }, { set: [{ concat: ['eth0', 8285] }] }), drop]],
      'refuse nftables inet t in 1',
    ],
    ['a mark', 'accept', [['in', is({ '&': [meta('mark'), 0x8000] }, 0x8000), drop]], 'accept'],
    [
      'a mark that was set',
      'accept',
      [
        ['in', { mangle: { key: meta('mark'), value: 5 } }],
        ['in', is(meta('mark'), 5), drop],
      ],
      'refuse nftables inet t in 2',
    ],
    ['a limit', 'drop', [['in', { limit: { rate: 10 } }, accept]], 'cannot judge nftables inet t in 1'],
    [
      'a reverse path',
      'accept',
      [['in', is({ fib: { result: 'oif', flags: ['saddr', 'iif'] } }, false), drop]],
      'cannot judge nftables inet t in 1',
    ],
    [
      'a local address',
      'accept',
      [['in', is({ fib: { result: 'type', flags: ['daddr'] } }, 'local', '!='), drop]],
      'accept',
    ],
    [
      'a jump',
      'accept',
      [
        ['in', { jump: { target: 'sub' } }],
        ['sub', drop],
      ],
      'refuse sub 1',
    ],
    [
      'a goto that comes back',
      'drop',
      [
        ['in', { goto: { target: 'sub' } }],
        ['in', accept],
      ],
      'refuse nftables inet t in policy',
    ],
    ['what nft cannot show', 'accept', [['in', { xt: null }, drop]], 'cannot judge nftables inet t in 1'],
  ])('%s', (_, policy, rules, expected) => expect(nft(datagram, policy, ...rules)).toBe(expected));

  it('the rules of firewalld', () => {
    const established = is(state, { set: ['established', 'related'] });
    const rules = (zone: unknown[]): [string, ...unknown[]][] => [
      ['fwd', established, accept],
      ['fwd', is({ ct: { key: 'status' } }, 'dnat', 'in'), accept],
      ['fwd', is(meta('iifname'), 'lo'), accept],
      ['fwd', is(state, { set: ['invalid'] }), drop],
      ['fwd', { jump: { target: 'sub' } }],
      ['fwd', { reject: { type: 'icmpx', expr: 'admin-prohibited' } }],
      ['sub', ...zone],
    ];
    expect(nft(forwarded, 'accept', ...rules([is(meta('iifname'), 'eth0'), accept]))).toBe(
      'refuse nftables inet t fwd 6',
    );
    const trusted = is(payload('ip', 'saddr'), { prefix: { addr: '10.5.0.0', len: 16 } });
    expect(nft(forwarded, 'accept', ...rules([trusted, accept]))).toBe('accept');
  });

  it('a rule is shown as nft writes it', () => {
    const listed = [
      chain('in', 'input'),
      { rule: { family: 'inet', table: 't', chain: 'in', handle: 7, expr: [drop] } },
    ];
    const listing = 'table inet t { # handle 1\n\tchain in { # handle 2\n\t\tudp dport 8285 drop # handle 7\n\t}\n}\n';
    const [base] = nftablesChains(JSON.stringify({ nftables: listed }), listing);
    expect(base?.rules[0]?.text).toBe('udp dport 8285 drop');
  });
});

it('an extent is the whole network that an address with host bits lies in, of either family', () => {
  expect(extentOf({ address: parseIpv4('192.0.2.10') as number, length: 24 })).toEqual(extent('192.0.2.0/24'));
  const network = 0x20010db8n << 96n;
  expect(extentOf({ address: network + 0x10n, length: 64 })).toEqual({
    low: network,
    high: network + (1n << 64n) - 1n,
  });
  expect(extentOf({ address: network, length: 0 })).toEqual({ low: 0n, high: (1n << 128n) - 1n });
});
