/**
 * tweed's data path on one host of a pair, without registry and control plane.
 *
 * Usage: tweed-host OWN-NUMBER OFFLOADS, where OFFLOADS is `auto` or `off`. Says `ready`; answers a line with its status.
 */
import { createInterface } from 'node:readline';
import { UdpBackend } from '../../src/backend/udp/udp-backend.js';
import { parseIpv4, parsePrefix } from '../../src/base/ipv4.js';
import { createLogger } from '../../src/base/log.js';
import type { NetworkConfig } from '../../src/subnet/config.js';
import type { Lease } from '../../src/subnet/lease.js';
import type { Switch } from '../../src/tun/device.js';

const own = Number(process.argv[2]);
const offload = process.argv[3] as Switch;
const address = (number: number) => parseIpv4(`192.168.64.${number}`) as number;
const lease = (number: number) =>
  ({
    subnet: parsePrefix(`100.96.${number}.0/24`),
    attributes: { publicIp: address(number), publicIpv6: null },
    expiresAt: null,
  }) as unknown as Lease;
const config = {
  network: parsePrefix('100.96.0.0/16'),
  subnetLength: 24,
  backend: { type: 'udp', options: {} },
} as unknown as NetworkConfig;

const underlay = { name: 'eth0', index: 2, address: address(own), mtu: 1500 };
const backend = new UdpBackend(
  { log: createLogger('warn'), underlay, publicIp: address(own), config },
  {
    deviceName: 'flannel0',
    checkSenders: true,
    offloads: { tunTso: offload, tunUso: offload, udpGso: offload, udpGro: offload, udpBatch: offload },
    socketBuffer: 7 << 20,
    txQueueLength: 1000,
  },
);
void backend.failed.then((error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
await backend.start(lease(own));
await backend.applyPeers([{ kind: 'added', lease: lease(3 - own) }]);
process.stdout.write('ready\n');
createInterface({ input: process.stdin }).on('line', () =>
  process.stdout.write(`${JSON.stringify(backend.status())}\n`),
);
process.once('SIGTERM', () => void backend.stop({ cleanUp: false }).then(() => process.exit(0)));
