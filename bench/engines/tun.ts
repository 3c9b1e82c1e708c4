/** What the benchmark's own tunnels share: their arguments, and a device without offloads. */
import { parseIpv4 } from '../../src/base/ipv4.js';
import { openTun } from '../../src/tun/device.js';

export interface EngineArguments {
  readonly device: string;
  readonly own: string;
  readonly peer: string;
  readonly port: number;
}

/** DEVICE OWN-ADDRESS PEER-ADDRESS PORT */
export function readArguments(argv: readonly string[]): EngineArguments {
  const [device, own, peer, port] = argv;
  if (device === undefined || parseIpv4(own ?? '') === null || parseIpv4(peer ?? '') === null || !Number(port)) {
    throw new Error('usage: DEVICE OWN-ADDRESS PEER-ADDRESS PORT');
  }
  return { device, own: own as string, peer: peer as string, port: Number(port) };
}

/** A TUN device that hands over one plain packet at a time. Its descriptor does not block. */
export function openPlainTun(name: string): number {
  return openTun(name, { tso: 'off', uso: 'off' }).fd;
}

export const MAX_PACKET = 65_536;
const MIN_HEADER = 20;
const TTL = 8;

/** An IPv4 packet that has a hop left. */
export function isForwardable(u8: Uint8Array, at: number, length: number): boolean {
  return length >= MIN_HEADER && (u8[at] as number) >>> 4 === 4 && (u8[at + TTL] as number) > 1;
}

/** The contender says so, in a line of its own, when its device is there. */
export function sayReady(): void {
  process.stdout.write('ready\n');
}
