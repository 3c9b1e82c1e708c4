import { describe, expect, it } from 'vitest';
import {
  explain,
  findPeer,
  lookupCommand,
  lookupKey,
  lookupsOf,
  takenByProgram,
  translations,
} from '../../../../src/lab/trace/explain.js';
import type { Hop } from '../../../../src/lab/trace/flight.js';
import { carrying, hop, icmp, ipv4, read, tcp, udp } from './support.js';
import { around, daemon, facts, link } from './surroundings.js';

/** 100.96.1.2 → 100.96.2.2 */
const ends = { source: 0x64600102, destination: 0x64600202 };
const data = new Uint8Array(16).fill(9);
const ping = (ttl = 64) => ipv4(1, icmp(8, 0, data), { ...ends, ttl });

const keyOf = (place: string, device: string | null) =>
  lookupKey({ place, destination: '100.96.2.2', source: '100.96.1.2', device });

/** The decisions at each hop in one place. */
function told(hops: readonly Hop[], surroundings: Parameters<typeof explain>[1]): (readonly string[])[] {
  return explain(hops, surroundings).map(({ decisions }) => decisions);
}

describe('questions to the routing', () => {
  it('are asked where a packet begins and where it is routed, not at ports of a bridge', () => {
    const hops = [
      hop('host1/c1 eth0 out', 1, ping()),
      hop('host1 veth-c1 in', 2, ping()),
      hop('host1 br0 in', 3, ping()),
      hop('host1 flannel0 out', 4, ping(63)),
    ];
    const ports = (_place: string, device: string) => ({ master: device === 'veth-c1' ? 'br0' : null });
    const asked = lookupsOf(hops, ports);
    expect(asked.map(({ place, device }) => [place, device])).toEqual([
      ['host1/c1', null],
      ['host1', 'br0'],
    ]);
    const same = { destination: '100.96.2.2', source: '100.96.1.2' };
    expect(lookupCommand({ place: 'host1', device: 'br0', ...same }).join(' ')).toBe(
      'ip route get fibmatch 100.96.2.2 from 100.96.1.2 iif br0',
    );
    expect(lookupCommand({ place: 'host1', device: null, ...same }).join(' ')).not.toContain('iif');
  });

  it('are about the address that destination NAT has made', () => {
    const published = ipv4(6, tcp({ sequence: 1, flags: 2, destination: 8080 }), { destination: 0xc0a84101 });
    const inside = ipv4(6, tcp({ sequence: 1, flags: 2, destination: 80 }), { destination: ends.destination });
    const asked = lookupsOf([hop('host1 eth0 in', 1, published), hop('host1 br0 out', 2, inside)], () => null);
    expect(asked).toEqual([{ place: 'host1', device: 'eth0', source: '10.0.0.1', destination: '100.96.2.2' }]);
  });
});

describe('what decided', () => {
  it('is route, bridge port, peer and time to live, with the microseconds between', () => {
    const here = facts({
      links: [link('veth-c1', { master: 'br0' }), link('flannel0', { kind: 'tun' })],
      daemon: daemon(),
    });
    const routes = { [keyOf('host1', 'br0')]: '100.96.0.0/16 dev flannel0 scope link' };
    const hops = [
      hop('host1 veth-c1 in', 1_000, ping()),
      hop('host1 br0 in', 3_500, ping()),
      hop('host1 flannel0 out', 4_000, ping(63)),
      hop('host1 eth0 out', 9_000, carrying(ping(62))),
    ];
    expect(told(hops, around('host1', here, here, routes))).toEqual([
      ["port of bridge br0: the frame is for the bridge's own MAC address, so it goes up to the host's routing"],
      ['route: 100.96.0.0/16 dev flannel0 scope link', 'TTL 64 → 63'],
      ["peer: 100.96.2.0/24 is host2's, at 192.168.65.2; one datagram around it", 'TTL 63 → 62'],
      [],
    ]);
    expect(explain(hops, around('host1', here, here)).map(({ sinceLast }) => sinceLast)).toEqual([null, 2.5, 0.5, 5]);
  });

  it.each([
    ['udp', 'one datagram around it'],
    ['vxlan', 'a VXLAN header around it'],
    ['wireguard', 'sealed for it'],
    ['host-gw', 'sent there'],
  ])('of %s is told in its words', (type, words) => {
    const here = facts({ links: [link('o', { kind: 'tun' })], daemon: daemon({ type, device: 'o' }) });
    const hops = [hop('host1 o out', 1, ping()), hop('host1 eth0 out', 2, carrying(ping()))];
    expect(told(hops, around('host1', here, here))[0]?.[0]).toContain(`at 192.168.65.2; ${words}`);
  });

  it.each([
    [
      'the kernel path',
      { rx_packets: 1, kernel_rx_packets: 1 },
      'kernel path: the program at eth0 checks sender and packet',
    ],
    ['user space', { rx_packets: 1 }, 'UDP port 8285: tweed checks sender and packet, and writes'],
    ['nobody knows whom', {}, 'UDP port 8285: whoever forwards there checks'],
  ])('about a datagram that was opened by %s', (_who, totals, words) => {
    const hops = [hop('host2 eth0 in', 1, carrying(ping(62))), hop('host2 flannel0 in', 2, ping(61))];
    const [before, after] = [{}, totals].map((counted) => facts({ daemon: daemon({ totals: counted }) }));
    const [at] = told(hops, around('host2', before as never, after as never));
    expect(at?.[0]).toContain(words);
    expect(at?.[1]).toBe('TTL 62 → 61');
  });

  it('is the kernel path, where a packet goes from the bridge into a datagram, or from the wire into a container', () => {
    const here = facts({ daemon: daemon() });
    const out = [hop('host1 br0 in', 1, ping()), hop('host1 eth0 out', 2, carrying(ping(62)))];
    expect(told(out, around('host1', here, here))[0]?.[0]).toBe(
      'kernel path: the program at flannel0 put it into a datagram; no capture there sees it',
    );
    const into = [hop('host2 eth0 in', 1, carrying(ping(62))), hop('host2/c1 eth0 in', 2, ping(61))];
    const [at] = told(into, around('host2', here, here));
    expect(at?.[0]).toContain("the program at eth0 gave what is inside straight to host2/c1's link");
    expect(at?.[1]).toBe('TTL 62 → 61');
  });

  it('is a translation with the rule that counted, or the connection’s memory', () => {
    const before = ipv4(6, tcp({ sequence: 1, flags: 2, destination: 8080 }), { destination: 0xc0a84101 });
    const after = ipv4(6, tcp({ sequence: 1, flags: 2, destination: 80 }), {
      source: 5,
      destination: ends.destination,
    });
    const hops = [hop('host1 eth0 in', 1, before), hop('host1 br0 out', 2, after)];
    const rule = 'nat -A PREROUTING -p tcp -j DNAT --to-destination 100.96.2.2:80';
    const [at] = told(hops, around('host1', facts({ rules: { [rule]: 1 } }), facts({ rules: { [rule]: 2 } })));
    expect(at).toEqual([
      `DNAT: destination 192.168.65.1 port 8080 → 100.96.2.2 port 80, by ${rule}`,
      'SNAT: source 10.0.0.1 port 4000 → 0.0.0.5 port 4000, by connection tracking: as with the packets before it',
    ]);
    expect(translations(read(before), read(before))).toEqual([]);
  });

  it('of pieces is how many there are, and how long', () => {
    const one = hop('a eth0 out', 1, ipv4(17, udp(data), { more: true }));
    const here = facts();
    const fragments = { ...one, packets: [...one.packets, read(ipv4(17, data, { offset: 24 }))] };
    expect(told([fragments], around('a', here, here))[0]).toEqual(['in 2 fragments: 44 + 36 bytes']);
    const segment = hop('a eth0 out', 1, ipv4(6, tcp({ sequence: 1, flags: 16 }, data)));
    const segments = { ...segment, packets: [...segment.packets, ...segment.packets] };
    expect(told([segments], around('a', here, here))[0]).toEqual(['in 2 segments: 56 + 56 bytes']);
  });
});

describe('the last sighting', () => {
  const last = hop('host1 br0 in', 1, ping());
  const routes = { [keyOf('host1', 'br0')]: '100.96.0.0/16 dev flannel0 scope link' };
  const at = (totals: Readonly<Record<string, number>>) => facts({ daemon: daemon({ totals }) });

  it('still tells the route, and that a program took it, which no capture sees', () => {
    const taken = around('host1', at({}), at({ tx_packets: 1, kernel_tx_packets: 1 }), routes);
    expect(takenByProgram(last, taken)).toBe('the program at flannel0');
    expect(told([last], taken)[0]).toEqual([
      'route: 100.96.0.0/16 dev flannel0 scope link',
      'kernel path: the program at flannel0 took it; no capture there sees it',
      "peer: 100.96.2.0/24 is host2's, at 192.168.65.2; one datagram around it",
    ]);
    const left = around('host1', at({}), at({ tx_packets: 1 }), routes);
    expect(takenByProgram(last, left)).toBeNull();
    expect(told([last], left)[0]).toEqual(['route: 100.96.0.0/16 dev flannel0 scope link']);
  });

  it('of a packet that goes elsewhere, or is at its end, knows of no program', () => {
    const counted = { tx_packets: 1, kernel_tx_packets: 1 };
    const elsewhere = around('host1', at({}), at(counted), {
      [keyOf('host1', 'br0')]: 'default via 10.0.0.1 dev eth0',
    });
    expect(takenByProgram(last, elsewhere)).toBeNull();
    const local = around('host1', at({}), at(counted), { [keyOf('host1', 'br0')]: 'local 100.96.2.2 dev lo' });
    expect(told([last], local)[0]).toEqual([]);
    expect(takenByProgram(hop('host1 eth0 out', 1, ping()), elsewhere)).toBeNull();
  });

  it('of a datagram can be the program’s as well', () => {
    const datagram = hop('host2 eth0 in', 1, carrying(ping(62)));
    const taken = around('host2', at({}), at({ rx_packets: 1, kernel_rx_packets: 1 }));
    expect(takenByProgram(datagram, taken)).toBe('the program at eth0');
  });
});

it('the peer is the one whose subnet holds the address, of either family', () => {
  const peers = daemon().backend?.peers ?? [];
  expect(findPeer(peers, read(ping()))).toBe(peers[0]);
  expect(findPeer(peers, { ...read(ping()), destination: 0x64600302 })).toBeNull();
  expect(findPeer(peers, { ...read(ping()), family: 6, destination: 0xfd00_0002n << 96n })).toBe(peers[0]);
});
