/** The hosts that are not there: where their leases lie, and what they would be behind. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseIpv4 } from '../../src/base/ipv4.js';
import { encodeLeaseValue, formatSubnetKey } from '../../src/subnet/keys.js';

/** Inside the network of the pairs, behind the subnets of the two hosts. */
const FIRST_SUBNET = parseIpv4('100.96.100.0') ?? 0;
/** On no link: they speak from elsewhere. */
const FIRST_HOST = parseIpv4('192.168.100.1') ?? 0;
const PORT = 51_820;

/** A container of the peer with that number, from 0; host order. */
export function peerContainer(number: number): number {
  return FIRST_SUBNET + number * 256 + 2;
}

/** Reserves a subnet for each peer. @param registry a directory @param publicKeys in base64 */
export async function writeLeases(registry: string, publicKeys: readonly string[]): Promise<void> {
  const folder = join(registry, 'subnets');
  await mkdir(folder, { recursive: true });
  for (const [number, PublicKey] of publicKeys.entries()) {
    const subnet = { address: FIRST_SUBNET + number * 256, length: 24 };
    const value = encodeLeaseValue({
      publicIp: FIRST_HOST + number,
      publicIpv6: null,
      backendType: 'wireguard',
      backendData: { PublicKey, Port: PORT },
    });
    await writeFile(join(folder, formatSubnetKey({ subnet, subnetV6: null })), value);
  }
}
