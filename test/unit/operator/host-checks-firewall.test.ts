import { describe, expect, it } from 'vitest';
import { nftablesChains } from '../../../src/operator/doctor/firewall/nftables-rules.js';
import { hostGw, saved, trouble, troubles } from './support/healthy-host.js';

describe('iptables firewall', () => {
  const filter = (text: string) => ({ iptables: saved(`*filter\n${text}\nCOMMIT\n`) });
  const dropIn = ':INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]';

  it.each([
    ['-A INPUT -p udp -m udp --dport 8285 -j ACCEPT'],
    ['-A INPUT -s 192.0.2.0/24 -p udp -m multiport --dports 53,8000:9000 -j ACCEPT'],
    [':ufw-user-input - [0:0]\n-A INPUT -j ufw-user-input\n-A ufw-user-input -p udp -m udp --dport 8285 -j ACCEPT'],
  ])('lets the port in: %s', (rule) => {
    expect(troubles(filter(`${dropIn}\n${rule}`))).toEqual([]);
  });

  it.each([
    [''],
    ['-A INPUT -i lo -j ACCEPT'],
    ['-A INPUT -p tcp -m tcp --dport 8285 -j ACCEPT'],
    ['-A INPUT -p udp -m udp --dport 8472 -j ACCEPT'],
    ['-A INPUT -p udp -m udp --dport 8285 -j DROP'],
  ])('does not: %s', (rule) => {
    expect(trouble(filter(`${dropIn}\n${rule}`))).toContain('iptables -I INPUT -p udp --dport 8285 -j ACCEPT');
  });

  it('that refuses by its last rule, or is ufw’s', () => {
    const last =
      ':INPUT ACCEPT [0:0]\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -j REJECT --reject-with icmp-host-prohibited';
    expect(trouble(filter(last))).toContain('fail firewall-input');
    expect(trouble(filter(`${dropIn}\n:ufw-before-input - [0:0]`))).toContain('ufw allow 8285/udp');
    expect(troubles(filter(dropIn), hostGw)).toEqual([]);
  });

  it('forwards only with FLANNEL-FWD before what refuses', () => {
    const drop = ':INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:FLANNEL-FWD - [0:0]';
    const own = ['-s', '-d'].map((side) => `-A FLANNEL-FWD ${side} 10.5.0.0/16 -j ACCEPT`);
    const jump = ['-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD', ...own].join('\n');
    const reject = '-A FORWARD -j REJECT --reject-with icmp-port-unreachable';
    expect(trouble(filter(drop))).toContain('no jump to FLANNEL-FWD');
    expect(troubles(filter(`${drop}\n${jump}`))).toEqual([]);
    expect(troubles(filter(`${drop}\n${jump}\n${reject}`))).toEqual([]);
    expect(trouble(filter(`${drop}\n${reject}\n${jump}`))).toContain('before the jump to FLANNEL-FWD');
    expect(troubles(filter(`${drop}\n-A FORWARD -s 10.0.0.0/8 -j ACCEPT`))).toEqual([]);
    expect(trouble(filter(drop), { rulesMode: 'nftables' })).toContain('whatever nftables accepts');
  });

  it('is asked for, and in two variants told of', () => {
    expect(trouble({ iptables: [], nftables: [] })).toContain('apt-get install iptables');
    expect(troubles({ iptables: [], nftables: [] }, { rulesMode: 'nftables' })).toEqual([]);
    expect(trouble({ bothIptables: true })).toContain('iptables-legacy-save');
  });
});

describe('nftables firewall', () => {
  const match = (field: string, right: unknown) => ({
    match: { op: '==', left: { payload: { protocol: field === 'dport' ? 'udp' : 'ip', field } }, right },
  });
  const ruleset = (table: string, hook: string, policy: string, ...rules: object[][]) => ({
    nftables: nftablesChains(
      JSON.stringify({
        nftables: [
          { metainfo: {} },
          { chain: { family: 'inet', table, name: 'c', hook, policy, prio: 0, type: 'filter' } },
          { chain: { family: 'inet', table, name: 'sub' } },
          ...rules.map((expr) => ({ rule: { family: 'inet', table, chain: 'c', expr } })),
        ],
      }),
    ),
  });

  it('lets the port in by number, set or range, or not at all', () => {
    expect(trouble(ruleset('filter', 'input', 'drop'))).toContain(
      'nft insert rule inet filter c udp dport 8285 accept',
    );
    for (const right of [8285, { set: [53, 8285] }, { range: [8000, 9000] }, { set: [{ range: [8285, 8286] }] }]) {
      expect(troubles(ruleset('filter', 'input', 'drop', [match('dport', right), { accept: null }]))).toEqual([]);
    }
    expect(trouble(ruleset('filter', 'input', 'drop', [match('dport', 53), { accept: null }]))).toContain('8285');
    expect(troubles(ruleset('filter', 'input', 'accept'))).toEqual([]);
  });

  it('knows firewalld, which refuses by its last rule', () => {
    const reject = [{ reject: { type: 'icmpx', expr: 'admin-prohibited' } }];
    expect(trouble(ruleset('firewalld', 'input', 'accept', reject))).toContain(
      'firewall-cmd --permanent --add-port=8285/udp',
    );
    expect(trouble(ruleset('firewalld', 'forward', 'accept', reject))).toContain(
      '--zone=trusted --add-source=10.5.0.0/16',
    );
  });

  it('lets a network through by the chain to which its packets go', () => {
    const to = (target: string, ...accepting: unknown[]) =>
      troubles({
        nftables: nftablesChains(
          JSON.stringify({
            nftables: [
              { chain: { family: 'inet', table: 't', name: 'c', hook: 'forward', policy: 'drop', type: 'filter' } },
              { rule: { family: 'inet', table: 't', chain: 'trusted', expr: accepting } },
              {
                rule: {
                  family: 'inet',
                  table: 't',
                  chain: 'c',
                  expr: [match('saddr', '10.5.0.0/16'), { goto: { target } }],
                },
              },
            ],
          }),
        ),
      });
    expect(to('trusted', { accept: null })).toEqual([]);
    expect(to('elsewhere', { accept: null })).toHaveLength(1);
    expect(to('trusted', match('dport', 22), { accept: null })).toHaveLength(1);
  });

  it('forwards the network, or not', () => {
    expect(trouble(ruleset('mine', 'forward', 'drop'))).toContain(
      'nft insert rule inet mine c ip saddr 10.5.0.0/16 accept',
    );
    const accept = [match('saddr', { prefix: { addr: '10.0.0.0', len: 8 } }), { accept: null }];
    expect(troubles(ruleset('mine', 'forward', 'drop', accept))).toEqual([]);
  });
});
