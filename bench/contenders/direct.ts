import { ipInside } from '../../src/lab/namespace.js';
import { type Contender, otherEnd } from './contender.js';

/** No tunnel: the hosts know each other's container subnets as routes. What flannel calls host-gw. */
export const direct: Contender = {
  id: 'direct',
  title: 'direct',
  description: "no tunnel: each host has a route to the other's containers; MTU 1500",
  encrypted: false,
  mtu: 1500,
  unavailable: async () => '',
  async start(pair) {
    for (const end of pair.ends) {
      const peer = otherEnd(pair, end);
      await ipInside(end.host, [`route add ${peer.subnet} via ${peer.address}`]);
    }
    return { pids: [], device: null, stop: async () => {} };
  },
};
