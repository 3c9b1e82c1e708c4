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
