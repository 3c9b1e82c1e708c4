import { describe, expect, it } from 'vitest';
import type { Surroundings } from '../../../../src/lab/trace/explain.js';
import { lookupKey } from '../../../../src/lab/trace/explain.js';
import { judgeTrace } from '../../../../src/lab/trace/verdict.js';
import { carrying, hop, icmp, ipv4, sighting, tcp, udp } from './support.js';
import { around, daemon, facts, link, observed } from './surroundings.js';

/** 100.96.1.2 → 100.96.2.2, and back. */
const ends = { source: 0x64600102, destination: 0x64600202 };
const back = { source: ends.destination, destination: ends.source };
const data = new Uint8Array(16).fill(9);
const ping = ipv4(1, icmp(8, 0, data), ends);
const datagram = ipv4(17, udp(data, 4000, 9), ends);

const left = hop('host1/c1 eth0 out', 1_000_000, ping);
const nothing: Surroundings = { before: new Map(), after: new Map(), routes: new Map(), hostOf: () => null };

describe('a packet that arrived', () => {
  const arrived = (bytes: Uint8Array) => [left, hop('host2/c1 eth0 in', 3_500_000, bytes)];

  it('was answered, if the answer came back; else it only arrived', () => {
    const answer = sighting('host2/c1 eth0 out', 4, ipv4(1, icmp(0, 0, data), back));
    const seen = observed({ there: arrived(ping), answer, answerCameBack: true });
    const text = 'it arrived at host2/c1 (eth0) after 2.50 ms, and was answered with ICMP echo reply';
    expect(judgeTrace(seen, nothing)).toEqual({ outcome: 'answered', text, evidence: [], mend: '' });
    expect(judgeTrace({ ...seen, answerCameBack: false }, nothing)).toMatchObject({
      outcome: 'arrived',
      text: `${text}; but the answer did not come back: trace the way from host2/c1`,
    });
  });

  it('without an answer is no fault of UDP, which need not answer', () => {
    const told = (bytes: Uint8Array) => judgeTrace(observed({ there: arrived(bytes) }), nothing);
    expect(told(datagram)).toMatchObject({ outcome: 'arrived', text: expect.stringMatching(/UDP need not answer$/) });
    expect(told(ping)).toMatchObject({ outcome: 'arrived', text: expect.stringMatching(/no answer was seen$/) });
  });

  it.each([
    ['UDP', datagram, ipv4(1, icmp(3, 3, datagram), back), 'ICMP port unreachable', 9],
    [
      'TCP',
      ipv4(6, tcp({ sequence: 1, flags: 2 }), ends),
      ipv4(6, tcp({ sequence: 0, flags: 0x14, source: 80, destination: 4000 }), back),
      'TCP RST ACK',
      80,
    ],
  ] as const)('was refused where nothing listens at its %s port', (name, sent, answer, said, port) => {
    const seen = observed({ there: arrived(sent), answer: sighting('host2/c1 eth0 out', 4, answer) });
    const verdict = judgeTrace(seen, nothing);
    expect(verdict.outcome).toBe('refused');
    expect(verdict.text).toContain(`nothing listens at ${name} port ${port} there`);
    expect(verdict.evidence[0]).toBe(`answered with ${said}`);
  });

  it('was refused by a rule there that counted, and the rule’s deletion mends it', () => {
    const rule = 'ip6tables filter -A INPUT -p udp -j REJECT';
    const moved = around('host2/c1', facts(), facts({ rules: { [rule]: 1 } }));
    expect(judgeTrace(observed({ there: arrived(datagram) }), moved)).toMatchObject({
      outcome: 'refused',
      evidence: [`counted meanwhile: ${rule}`],
      mend: 'exec host2/c1 -- ip6tables -t filter -D INPUT -p udp -j REJECT',
    });
  });
});

describe('a packet that never left', () => {
  it('had no route, and what the sending program was told is evidence', () => {
    const sender = { outcome: 'error', error: 'ENETUNREACH', waitedMs: 1 } as const;
    const originRoute = 'RTNETLINK answers: Network is unreachable';
    expect(judgeTrace(observed({ sender, originRoute }), nothing)).toEqual({
      outcome: 'stopped',
      text: 'host1/c1 has no route to 100.96.2.2',
      evidence: [`ip route get: ${originRoute}`, 'the sending program was told ENETUNREACH'],
      mend: 'exec host1/c1 -- ip route',
    });
    expect(judgeTrace(observed({}), nothing).text).toBe('it never left host1/c1');
  });

  it('was refused by a rule at home', () => {
    const moved = around('host1/c1', facts(), facts({ rules: { 'filter -A OUTPUT -j DROP': 1 } }));
    expect(judgeTrace(observed({}), moved)).toMatchObject({
      text: 'it never left host1/c1: a firewall rule there refused it',
      mend: 'exec host1/c1 -- iptables -t filter -D OUTPUT -j DROP',
    });
  });
});

describe('a packet that stopped', () => {
  const atHost = [left, hop('host1 br0 in', 2_000_000, ping)];
  const onWire = [left, hop('host2 eth0 in', 2_000_000, carrying(ping))];
  const stopped = (hops: typeof atHost, surroundings: Surroundings, more: Parameters<typeof observed>[0] = {}) =>
    judgeTrace(observed({ there: hops, ...more }), surroundings);

  it('for no known reason says so', () => {
    expect(stopped(atHost, nothing)).toEqual({
      outcome: 'stopped',
      text: 'it was last seen coming into host1 by br0: nobody counted or said why',
      evidence: [],
      mend: '',
    });
  });

  it('was too long for the next device, which is the strongest of all reasons', () => {
    const next = { place: 'switch', link: link('host2', { mtu: 40 }) };
    const rules = around('host1', facts(), facts({ rules: { 'filter -A FORWARD -j DROP': 1 } }));
    const verdict = stopped(atHost, rules, { nextLink: next });
    expect(verdict.text).toContain('an MTU hole: it has 44 bytes there, and host2 of switch takes no more than 40');
    expect(verdict.evidence).toEqual(['MTU of host2 of switch: 40', 'counted meanwhile: filter -A FORWARD -j DROP']);
    expect(verdict.mend).toBe('exec switch -- ip link set host2 mtu 44');
  });

  it.each([
    [
      'a rule',
      facts(),
      facts({ rules: { 'filter -A FORWARD -j REJECT': 1 } }),
      /a firewall rule of host1 refused it$/,
      'exec host1 -- iptables -t filter -D FORWARD -j REJECT',
    ],
    [
      'its daemon',
      facts({ daemon: daemon({ drops: { tx_tun_queue_full: 1 } }) }),
      facts({ daemon: daemon({ drops: { tx_tun_queue_full: 3 } }) }),
      /the daemon of host1 dropped it \(tx_tun_queue_full\)$/,
      'exec host1 -- tweed status',
    ],
    [
      'the kernel',
      facts({ counters: { 'TcpExt.IPReversePathFilter': 1 } }),
      facts({ counters: { 'TcpExt.IPReversePathFilter': 2 } }),
      /host1 dropped it: reverse path filtering/,
      '',
    ],
    [
      'a host that does not forward',
      facts({ counters: { 'Ip.Forwarding': 2, 'Ip.InAddrErrors': 1 } }),
      facts({ counters: { 'Ip.Forwarding': 2, 'Ip.InAddrErrors': 2 } }),
      /host1 does not forward packets, and this one is not for itself$/,
      'exec host1 -- sysctl -w net.ipv4.ip_forward=1',
    ],
    [
      'an address that is nobody’s here, where packets are forwarded',
      facts({ counters: { 'Ip.Forwarding': 1, 'Ip.InAddrErrors': 1 } }),
      facts({ counters: { 'Ip.Forwarding': 1, 'Ip.InAddrErrors': 2 } }),
      /host1 dropped it: the address is not to be reached from there$/,
      '',
    ],
    [
      'a policy, which does not count',
      facts(),
      facts({ rules: { 'filter -P FORWARD DROP': 0 } }),
      /forwards nothing that no rule accepts \(policy DROP\)$/,
      'exec host1 -- iptables -P FORWARD ACCEPT',
    ],
    [
      'a device that counted',
      facts({ links: [link('eth0')] }),
      facts({ links: [link('eth0', { dropped: 1 })] }),
      /eth0 of host1 dropped it$/,
      '',
    ],
  ] as const)('because of %s says so', (_who, before, after, text, mend) => {
    const verdict = stopped(atHost, around('host1', before, after));
    expect(verdict.text).toMatch(text);
    expect(verdict.evidence.length).toBeGreaterThan(0);
    expect(verdict.mend).toBe(mend);
  });

  it('at a device that is down', () => {
    const next = { place: 'host1', link: link('veth-c1', { up: false }) };
    expect(stopped(atHost, nothing, { nextLink: next })).toMatchObject({
      text: expect.stringMatching(/veth-c1 of host1 is down$/),
      mend: 'exec host1 -- ip link set veth-c1 up',
    });
  });

  it('at a neighbour that does not say where it is; others do not matter', () => {
    const silent = { '192.168.65.2': 'eth0', '192.168.65.9': 'eth0' };
    const verdict = stopped(atHost, around('host1', facts(), facts({ silent, daemon: daemon() })));
    expect(verdict.text).toMatch(/192\.168\.65\.2 does not answer on eth0 when host1 asks where it is \(ARP\)$/);
    expect(verdict.evidence).toEqual(['neighbour 192.168.65.2 on eth0 of host1: no answer']);
  });

  it('because nobody has that subnet, whatever else was said', () => {
    const surroundings = around('host1', facts(), facts({ daemon: daemon() }));
    const error = sighting('host1 br0 out', 3, ipv4(1, icmp(3, 0, ping), back));
    const verdict = stopped(atHost, surroundings, { destination: '100.96.77.2', error });
    expect(verdict.text).toMatch(/no host of the overlay has a subnet with 100\.96\.77\.2$/);
    expect(verdict.evidence[0]).toMatch(/answered with ICMP network unreachable$/);
    expect(stopped(atHost, surroundings, { destination: '8.8.8.8' }).text).toMatch(/nobody counted/);
  });

  it('because a router said so, with the MTU where it told one', () => {
    const error = sighting('host1 br0 out', 3, ipv4(1, icmp(3, 4, ping, 1400), { ...back, source: 0xc0a84101 }));
    const verdict = stopped(atHost, nothing, { error, placeOf: () => 'host1' });
    expect(verdict.text).toMatch(/host1 sent it back: ICMP fragmentation needed \(MTU 1400\)$/);
  });

  it('because the other daemon is gone, told by ICMP or by its silence', () => {
    const said = ipv4(1, icmp(3, 3, carrying(ping)), { source: 0xc0a84102 });
    const error = sighting('host2 eth0 out', 3, said);
    expect(stopped(onWire, nothing, { error, placeOf: () => 'host2' })).toMatchObject({
      text: expect.stringMatching(/nothing listens at UDP port 8285 of host2: its daemon is down$/),
      mend: 'up',
    });
    const silence = around('host2', facts({ daemon: daemon() }), facts());
    expect(stopped(onWire, silence).text).toMatch(/the daemon of host2 does not answer$/);
    expect(stopped(atHost, around('host1', facts(), facts())).text).toMatch(/nobody counted/);
  });

  it('behind a program of the kernel path says that no capture sees it there', () => {
    const at = (totals: Readonly<Record<string, number>>) => facts({ daemon: daemon({ totals }) });
    const key = lookupKey({ place: 'host1', destination: '100.96.2.2', source: '100.96.1.2', device: 'br0' });
    const routes = { [key]: '100.96.0.0/16 dev flannel0 scope link' };
    const surroundings = around('host1', at({}), at({ tx_packets: 1, kernel_tx_packets: 1 }), routes);
    expect(stopped(atHost, surroundings).text).toBe(
      'it was last seen coming into host1 by br0, where the program at flannel0 took it (kernel path), which no capture sees: nobody counted or said why',
    );
  });
});
