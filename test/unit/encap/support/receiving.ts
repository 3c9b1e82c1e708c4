/** Driving the UDP → TUN forwarder: what arrives, and what the kernel behind the TUN makes of what is written. */
import { expect } from 'vitest';
import { EAGAIN } from '../../../../src/linux/constants.js';
import type { Arrival } from './fake-kernel.js';
import { altered, fixHeaderChecksum, type TcpFields, tcp, type UdpFields, udp } from './packets.js';
import { concat, deliver } from './reference.js';
import { host, type Workbench, workbench } from './workbench.js';

/** From a container of host 2 to one of this host. */
export const inboundUdp = (fields: Partial<UdpFields> = {}): Uint8Array =>
  udp({ source: [2, 2], destination: [1, 2], ...fields });
export const inboundTcp = (fields: Partial<TcpFields> = {}): Uint8Array =>
  tcp({ source: [2, 2], destination: [1, 2], ...fields });

/** One datagram from host 2, if not told otherwise. */
export function datagram(
  bytes: Uint8Array,
  changes: Partial<Exclude<Arrival, { readonly errno: number }>> = {},
): Arrival {
  return { bytes, from: host(2), ...changes };
}

/** A run of datagrams as UDP_GRO gives it: all of the first one's length, the last may be shorter. */
export function run(packets: readonly Uint8Array[], changes = {}): Arrival {
  return datagram(concat(...packets), { gro: packets[0]!.length, ...changes });
}

export function receive(arrivals: readonly Arrival[], bench: Workbench = workbench()): Workbench {
  bench.kernel.arrivals.push(...arrivals);
  const forwarder = bench.rx();
  do expect(forwarder.turn()).toBe(EAGAIN);
  while (bench.kernel.arrivals.length > 0);
  return bench;
}

/** What reached the kernel behind the TUN, merged packets split again. */
export function delivered({ kernel }: Workbench): Uint8Array[] {
  return kernel.written.flatMap(({ vnet, packet }) => deliver(vnet, packet));
}

/** As a packet should leave: one hop older. */
export function forwarded(packet: Uint8Array): Uint8Array {
  if (packet[0]! >> 4 === 6) return altered(packet, { 7: packet[7]! - 1 });
  return fixHeaderChecksum(altered(packet, { 8: packet[8]! - 1 }));
}
