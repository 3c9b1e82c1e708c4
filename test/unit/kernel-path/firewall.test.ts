import { describe, expect, it } from 'vitest';
import { doubtAboutDirect, obstacleToDirect, withoutCounters } from '../../../src/kernel-path/firewall.js';

const ours = ':FORWARD ACCEPT\n-A FORWARD -s 10.5.0.0/16 -j ACCEPT\n-A FORWARD -d 10.5.0.0/16 -j ACCEPT\n';
/** A FORWARD chain that leads to another one with these rules. */
const chains = (rules: string) =>
  `*filter\n:FORWARD ACCEPT\n:FLANNEL-FWD -\n:OTHER -\n-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD\n${rules}\n`;

describe('the rules of a host', () => {
  it('are the same whatever they have counted, and when', () => {
    const saved = (n: number) =>
      `# Generated at ${n}\n*filter\n:FORWARD ACCEPT [${n}:${n}]\n[${n}:9] -A FORWARD -j ACCEPT\n`;
    expect(withoutCounters(saved(1))).toBe(withoutCounters(saved(22)));
  });

  it.each([
    '-A FORWARD -m conntrack --ctstate INVALID -j DROP',
    '-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    '-A FORWARD -m state --state NEW -j LOG',
    '\t\tct state invalid drop',
  ])('stand in the way when they ask for states: %s', (line) => {
    const rules = `${ours}${line}\n`;
    expect(obstacleToDirect({ rules, liberal: false })).toContain(`"${line.trim()}" asks for the state`);
    expect(obstacleToDirect({ rules, liberal: false })).toContain('nf_conntrack_tcp_be_liberal=1');
    expect(obstacleToDirect({ rules, liberal: true })).toBe('');
    expect(doubtAboutDirect({ rules, liberal: false })).toBe(obstacleToDirect({ rules, liberal: false }));
  });

  it.each([
    [ours, ''],
    ['', ''],
    [':FORWARD DROP\n', ':FORWARD DROP'],
    [`${ours}-A FORWARD -j DOCKER-USER\n`, '("-A FORWARD -j'],
    [`${ours}-A FORWARD -p tcp --dport 22 -j REJECT\n`, '-A FORWARD -p tcp --dport 22 -j'],
    ['type filter hook forward priority filter; policy drop;', 'hook forward priority filter; policy drop'],
    ['-A INPUT -j DROP\n', ''],
    // as `-iptables-forward-rules` makes them, and as others do
    [chains('-A FLANNEL-FWD -s 10.5.0.0/16 -j ACCEPT\n-A FLANNEL-FWD -d 10.5.0.0/16 -j ACCEPT'), ''],
    [chains('-A FLANNEL-FWD -m comment --comment counted'), ''],
    [chains('-A FLANNEL-FWD -g OTHER\n-A OTHER -j FLANNEL-FWD\n-A OTHER -j RETURN'), ''],
    [chains('-A FLANNEL-FWD -g OTHER\n-A OTHER -d 10.5.1.2/32 -j DROP'), '-A OTHER -d 10.5.1.2/32 -j DROP'],
    [chains('-A OTHER -j DROP'), ''],
    [`*nat\n:FLANNEL-FWD -\n-A FLANNEL-FWD -j DNAT\n${chains('')}`, ''],
    ['*mangle\n-A FORWARD -p tcp -j TCPMSS --clamp-mss-to-pmtu\n', '-j TCPMSS'],
  ])('make doubtful what they would not see: %j', (rules, named) => {
    expect(obstacleToDirect({ rules, liberal: false })).toBe('');
    const doubt = doubtAboutDirect({ rules, liberal: false });
    if (named === '') expect(doubt).toBe('');
    else expect(doubt).toContain(named);
  });
});
