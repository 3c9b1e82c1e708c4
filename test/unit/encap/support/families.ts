/** A bench whose peers have a subnet of each family, reached by an underlay of one of them. */
import type { Family } from '../../../../src/base/address.js';
import type { ForwarderOptions } from '../../../../src/encap/datapath/options.js';
import type { Peer } from '../../../../src/encap/forwarding/forwarding-table.js';
import { EAGAIN } from '../../../../src/linux/constants.js';
import { type Arrival, SOCKET, SOCKET_V6, type TunRead } from './fake-kernel.js';
import { host, hostV6, subnet, subnetV6, type Workbench, workbench } from './workbench.js';

/** Inner and outer. */
export const FAMILIES: readonly (readonly [Family, Family])[] = [
  [4, 4],
  [4, 6],
  [6, 4],
  [6, 6],
];

export function addressIn(outer: Family, n: number): number | bigint {
  return outer === 4 ? host(n) : hostV6(n);
}

export function peerIn(outer: Family, n: number): Peer {
  return {
    subnet: subnet(n),
    subnetV6: subnetV6(n),
    publicIp: outer === 4 ? host(n) : 0,
    publicIpv6: outer === 6 ? hostV6(n) : null,
  };
}

export function benchOf(outer: Family, changes: Partial<ForwarderOptions> = {}): Workbench {
  const bench = workbench(changes);
  for (const n of [2, 3]) bench.peers.put(peerIn(outer, n));
  return bench;
}

export const socketOf = (outer: Family) => (outer === 4 ? SOCKET : SOCKET_V6);

/** Sends what the TUN has. */
export function drain(bench: Workbench, reads: readonly TunRead[], pathMtu = 1400): Workbench {
  bench.kernel.tunReads.push(...reads);
  const forwarder = bench.tx(() => pathMtu);
  do forwarder.turn();
  while (bench.kernel.tunReads.length > 0);
  return bench;
}

/** Receives datagrams by the socket of a family. */
export function receiveBy(outer: Family, bench: Workbench, arrivals: readonly Arrival[]): Workbench {
  const waiting = outer === 4 ? bench.kernel.arrivals : bench.kernel.arrivalsV6;
  waiting.push(...arrivals);
  const forwarder = bench.rx(outer);
  do if (forwarder.turn() !== EAGAIN) throw new Error('the forwarder gave up');
  while (waiting.length > 0);
  return bench;
}
