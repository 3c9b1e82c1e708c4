import { expect, it } from 'vitest';
import { parseIpv4 } from '../../../src/base/ipv4.js';
import { parseIpv6, parseIpv6Prefix } from '../../../src/base/ipv6.js';
import { type OuterQuestion, outerFamilies } from '../../../src/operator/doctor/outer-families.js';

const ipv6 = { address: parseIpv6('2001:db8::1') as bigint, prefixLength: 64 };
const both = { name: 'eth0', index: 2, address: parseIpv4('192.0.2.1') as number, prefixLength: 24, mtu: 1500, ipv6 };
const networkV6 = parseIpv6Prefix('fd00:5::/48');
const byIpv4 = { subnet: '10.5.2.0/24', publicIp: '192.0.2.2', publicIpv6: '2001:db8::2' };
const byIpv6 = { subnet: 'fd00:5:0:3::/64', publicIp: '2001:db8::3', publicIpv6: '2001:db8::3' };

it.each<[string, Partial<OuterQuestion>, readonly number[]]>([
  ['udp where all have IPv4', {}, [4]],
  ['udp where one has IPv6 alone', { peers: [byIpv4, byIpv6] }, [4, 6]],
  ['udp on a host of IPv6 alone', { underlay: { ...both, address: 0 } }, [6]],
  ['udp without IPv6 on the interface', { underlay: { ...both, ipv6: null }, peers: [byIpv6] }, [4]],
  ['vxlan', { type: 'vxlan' }, [4, 6]],
  ['vxlan of IPv4 alone', { type: 'vxlan', networkV6: null }, [4]],
  ['wireguard, separate', { type: 'wireguard', mode: 'separate' }, [4, 6]],
  ['wireguard, ipv4', { type: 'wireguard', mode: 'ipv4', peers: [byIpv6] }, [4]],
  ['wireguard, ipv6', { type: 'wireguard', mode: 'ipv6' }, [6]],
  ['wireguard, auto', { type: 'wireguard', mode: 'auto' }, [4]],
  ['wireguard, auto, where one has IPv6 alone', { type: 'wireguard', mode: 'auto', peers: [byIpv6] }, [4, 6]],
])('datagrams of %s', (_what, differs, expected) => {
  const usual = { type: 'udp', mode: null, underlay: both, networkV6, peers: [byIpv4] };
  expect(outerFamilies({ ...usual, ...differs })).toEqual(expected);
});
