import { expect, it } from 'vitest';
import type { PeerStatus } from '../../../../src/backend/backend.js';
import type { EngineStatus } from '../../../../src/backend/wireguard/engine.js';
import { mergeStatus } from '../../../../src/backend/wireguard/merged-status.js';

const peer = (changes: Partial<PeerStatus>): PeerStatus => ({
  subnet: '10.5.2.0/24',
  subnetV6: null,
  publicIp: '192.0.2.2',
  publicIpv6: '2001:db8::2',
  txPackets: 1,
  txBytes: 10,
  rxPackets: 2,
  rxBytes: 20,
  lastReceived: null,
  endpoint: '192.0.2.2:51820',
  lastHandshake: 5,
  ...changes,
});
const v6 = {
  subnet: 'fd00:5:0:2::/64',
  subnetV6: 'fd00:5:0:2::/64',
  endpoint: '[2001:db8::2]:51821',
} as const;
const status = (peers: Record<string, PeerStatus>, changes: Partial<EngineStatus> = {}): EngineStatus => ({
  peers: new Map(Object.entries(peers)),
  features: [],
  totals: {},
  drops: {},
  ...changes,
});

it('a host that is a peer of both devices is one, with the sum of what passed', () => {
  const other = peer({ ...v6, txPackets: 4, txBytes: 40, lastReceived: 7, lastHandshake: null });
  const { peers } = mergeStatus([status({ a: peer({}), b: peer({ subnet: '10.5.3.0/24' }) }), status({ a: other })]);
  expect(peers).toEqual([
    peer({
      subnetV6: v6.subnetV6,
      txPackets: 5,
      txBytes: 50,
      rxPackets: 4,
      rxBytes: 40,
      lastReceived: 7,
      endpoint: '192.0.2.2:51820, [2001:db8::2]:51821',
    }),
    peer({ subnet: '10.5.3.0/24' }),
  ]);
});

it('what nobody counts stays uncounted; who is a peer of one device alone is as it is there', () => {
  const uncounted = { txPackets: null, rxPackets: null, endpoint: null, lastHandshake: null };
  const one = status({ a: peer(uncounted) });
  const two = status({ a: peer({ ...v6, ...uncounted, lastHandshake: 9 }), c: peer(v6) });
  expect(mergeStatus([one, two]).peers).toEqual([
    peer({ ...uncounted, subnetV6: v6.subnetV6, txBytes: 20, rxBytes: 40, lastHandshake: 9 }),
    peer(v6),
  ]);
});

it('counts are added up, and of a feature the state that is not as it was wanted is told', () => {
  const feature = (name: string, reason: string) => ({
    name,
    wanted: 'on',
    inForce: reason === '' ? 'on' : 'off',
    reason,
  });
  const one = { features: [feature('udp_gso', ''), feature('udp_gro', 'x')], totals: { a: 1 }, drops: { b: 2, c: 1 } };
  const two = { features: [feature('udp_gso', 'y'), feature('udp_gro', '')], totals: { a: 3 }, drops: { b: 4 } };
  expect(mergeStatus([status({}, one), status({}, two)])).toEqual({
    peers: [],
    features: [feature('udp_gso', 'y'), feature('udp_gro', 'x')],
    totals: { a: 4 },
    drops: { b: 6, c: 1 },
  });
});
