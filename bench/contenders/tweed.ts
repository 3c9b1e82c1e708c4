import type { Families } from '../network/pair.js';
import type { Contender } from './contender.js';
import { startDaemons } from './daemon.js';

const ALL_OFF = ['--tun-tso=off', '--tun-uso=off', '--udp-gso=off', '--udp-gro=off', '--udp-batch=off'];

/** What all contenders that our own daemon sets up have in common. */
function ours(id: string, title: string, what: string, mtu: number, start: Contender['start']): Contender {
  const description = `${what}; leases in a directory, no masquerading; MTU ${mtu}`;
  return { id, title, description, encrypted: false, mtu, unavailable: async () => '', start };
}

/** tweed as it is shipped. */
export const tweed = ours('tweed', 'tweed', 'tweed run, as shipped, backend udp', 1472, (pair) =>
  startDaemons(pair, 'udp'),
);

/** tweed with the kernel path, in by route and straight to the container. */
export const kernelRoute = ours(
  'kernel-route',
  'tweed, kernel path route',
  'tweed run --kernel-path=route, backend udp: the same wire format without leaving the kernel, in by the host’s routes',
  1472,
  (pair) => startDaemons(pair, 'udp', ['--kernel-path=route']),
);
export const kernelDirect = ours(
  'kernel-direct',
  'tweed, kernel path direct',
  'tweed run --kernel-path=direct, backend udp: the same, known flows straight to their container',
  1472,
  (pair) => startDaemons(pair, 'udp', ['--kernel-path=direct']),
);

/** tweed with every offload turned off: one packet per system call. */
export const tweedOff = ours('tweed-off', 'tweed, offloads off', `tweed run ${ALL_OFF.join(' ')}`, 1472, (pair) =>
  startDaemons(pair, 'udp', ALL_OFF),
);

/** Encrypted, as flannel's wireguard backend, by the daemon itself. */
export const tweedWireguard: Contender = {
  ...ours(
    'tweed-wireguard',
    'tweed, wireguard',
    'tweed run with backend wireguard, encrypting in the daemon',
    1420,
    (pair) => startDaemons(pair, 'wireguard', ['--wireguard-engine=user']),
  ),
  encrypted: true,
};

/** The kernel's VXLAN, configured by the daemon as flannel does it. */
export const vxlan = ours(
  'vxlan',
  'kernel VXLAN',
  'tweed run with backend vxlan: the kernel encapsulates',
  1450,
  (pair) => startDaemons(pair, 'vxlan'),
);

/** No tunnel: each host has a route to the other's containers. */
export const direct = ours('direct', 'direct', 'tweed run with backend host-gw: routes, no tunnel', 1500, (pair) =>
  startDaemons(pair, 'host-gw'),
);

/** The same three with IPv6 among the containers, among the hosts, or both. */
export const ofIpv6: readonly Contender[] = [
  withFamilies(direct, 'direct-v6', 1500, { inner: 6, underlay: 6 }),
  withFamilies(vxlan, 'vxlan-v6', 1430, { inner: 6, underlay: 6 }),
  withFamilies(tweed, 'tweed-v6-on-v4', 1472, { inner: 6, underlay: 4 }),
  withFamilies(tweed, 'tweed-v4-on-v6', 1452, { inner: 4, underlay: 6 }),
  withFamilies(tweed, 'tweed-v6-on-v6', 1452, { inner: 6, underlay: 6 }),
];

function withFamilies(contender: Contender, id: string, mtu: number, families: Families): Contender {
  const { title, description, mtu: without } = contender;
  const words = `IPv${families.inner} by IPv${families.underlay}`;
  return {
    ...contender,
    id,
    title: `${title}, ${words}`,
    description: `${description.replace(`MTU ${without}`, `MTU ${mtu}`)}; ${words}`,
    mtu,
    families,
  };
}
