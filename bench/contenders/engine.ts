import { ipInside } from '../../src/lab/namespace.js';
import { Helper } from '../harness/process.js';
import { type End, NETWORK, type Pair } from '../network/pair.js';
import { otherEnd, type Running } from './contender.js';

export const DEVICE = 'flannel0';
export const PORT = 8285;
/** What the daemon uses too, so that the device's queue is no difference between them. */
const QUEUE_LENGTH = 1000;

/**
 * Starts a tunnel program on both hosts: something that makes a TUN device, says `ready`, and carries packets between it
 * and UDP port 8285 of the peer.
 *
 * @param argv the program for one end: its device, own address, peer's address, port
 */
export async function startEngines(
  pair: Pair,
  mtu: number,
  argv: (device: string, own: string, peer: string, port: string) => readonly string[],
): Promise<Running> {
  const helpers: Helper[] = [];
  const stop = async () => {
    await Promise.all(helpers.map((helper) => helper.stop()));
  };
  try {
    for (const end of pair.ends) {
      const peer = otherEnd(pair, end);
      helpers.push(await Helper.start(end.host, argv(DEVICE, end.address, peer.address, String(PORT)), /^ready$/));
      await configureDevice(end, mtu);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return { pids: helpers.map(({ pid }) => pid), device: () => DEVICE, stop };
}

/** What the daemon does to its device: address, MTU, queue, and the route of the whole overlay network. */
export async function configureDevice(end: End, mtu: number): Promise<void> {
  await ipInside(end.host, [
    `link set ${DEVICE} mtu ${mtu} txqueuelen ${QUEUE_LENGTH} up`,
    `addr add ${end.subnet.replace('/24', '/32')} dev ${DEVICE}`,
    `route add ${NETWORK} dev ${DEVICE}`,
  ]);
}
