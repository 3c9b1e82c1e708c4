import { exec } from '../../src/base/exec.js';
import { ipInside } from '../../src/lab/namespace.js';
import { type Contender, otherEnd } from './contender.js';

const DEVICE = 'flannel.1';

function macOf(number: number): string {
  return `0e:00:00:00:00:0${number}`;
}

/** The kernel's VXLAN, configured as flannel does it: VNI 1, port 8472, no learning, static neighbours. */
export const vxlan: Contender = {
  id: 'vxlan',
  title: 'kernel VXLAN',
  description: 'the kernel’s VXLAN as flannel configures it: VNI 1, UDP 8472, no learning, static neighbours; MTU 1450',
  encrypted: false,
  mtu: 1450,
  unavailable: async () => '',
  async start(pair) {
    for (const end of pair.ends) {
      const peer = otherEnd(pair, end);
      const far = peer.subnet.replace('/24', '');
      await ipInside(end.host, [
        `link add ${DEVICE} address ${macOf(end.number)} type vxlan id 1 local ${end.address} dev eth0 dstport 8472 nolearning`,
        `link set ${DEVICE} mtu 1450 up`,
        `addr add ${end.subnet.replace('/24', '/32')} dev ${DEVICE}`,
        `neigh add ${far} lladdr ${macOf(peer.number)} dev ${DEVICE} nud permanent`,
        `route add ${peer.subnet} via ${far} dev ${DEVICE} onlink`,
      ]);
      await exec(['bridge', '-n', end.host, 'fdb', 'add', macOf(peer.number), 'dev', DEVICE, 'dst', peer.address]);
    }
    return { pids: [], device: null, stop: async () => {} };
  },
};
