/**
 * Hosts of both families beside one that knows IPv4 alone, as every flanneld with the `udp` backend does: it is never sent an
 * IPv6 packet, and whoever sends one to it is told that there is no way.
 */
import { beforeEach, expect, it } from 'vitest';
import { payload, udp } from '../../unit/encap/support/packets.js';
import { addressV6, dualLeaseOf, leaseOf, PORT } from './support/host.js';
import { forwarded } from './support/packet-changes.js';
import { useSite } from './support/site.js';
import { RawIp, Sniffer, Udp } from './support/sockets.js';
import { sendFile } from './support/transfer.js';
import { until } from './support/until.js';

const ICMPV6 = 58;
const UNREACHABLE = 1;
/** raw(7): the caller writes the IP header. */
const IPPROTO_RAW = 255;

const site = useSite({ hosts: 3 });
/** The IPv4-only host: all that its daemon would see. */
let flanneld: Udp;

beforeEach(async () => {
  const [one, two, three] = [site().host(1), site().host(2), site().host(3)];
  const old = leaseOf(3, three.publicIp);
  for (const { namespace } of [one, two]) namespace.sysctl('ipv6/conf/all/forwarding', 1);
  await one.process.start(one, site().mtu, [dualLeaseOf(2, two, 4), old], { dualOver: 4 });
  await two.process.start(two, site().mtu, [dualLeaseOf(1, one, 4), old], { dualOver: 4 });
  flanneld = new Udp(three.namespace, { address: three.publicIp, port: PORT });
});

it('the IPv4-only host gets IPv4 from both, and not one packet of IPv6', async () => {
  const [one, two] = [site().host(1), site().host(2)];
  const container = new Sniffer(one.container, 'eth0', 'in');
  const raw = new RawIp(one.container, IPPROTO_RAW, 6);
  for (const destination of ['fd00::3:2', 'fd00::3:0', 'fd00::99:1'])
    raw.send(toV6(destination), addressV6(destination));
  await until('they are counted', async () => (await one.process.status()).drops.tx_no_route === 3);
  await container.collect(
    'their errors',
    3,
    (seen) => seen[0]! >> 4 === 6 && seen[6] === ICMPV6 && seen[40] === UNREACHABLE,
  );

  const packets = [one, two].map(({ number }) =>
    udp({ source: [number, 2], destination: [3, 2], ttl: 64, payload: payload(100, number) }),
  );
  for (const [i, { container: namespace }] of [one, two].entries())
    new RawIp(namespace, IPPROTO_RAW).send(packets[i] as Uint8Array, site().host(3).containerIp);
  const received: Buffer[] = [];
  await until('the IPv4 packets', () => {
    received.push(...flanneld.receive().map(({ data }) => data));
    return received.length >= 2;
  });
  expect(received.map((data) => data[0]! >> 4)).toEqual([4, 4]);
  // the host forwarded it first, and the tunnel is a hop, too
  const expected = packets.map((packet) => Buffer.from(forwarded(forwarded(packet))).toString('hex'));
  expect(received.map((data) => data.toString('hex')).sort()).toEqual(expected.sort());
});

it('the others exchange both families, and take IPv4 from the old one', async () => {
  const [one, two, three] = [site().host(1), site().host(2), site().host(3)];
  for (const family of [4, 6] as const)
    await sendFile(one.endOf(family), two.endOf(family), Buffer.alloc(100_000, family));
  const device = new Sniffer(one.namespace, 'flannel0', 'in');
  const packet = udp({ source: [3, 2], destination: [1, 2], ttl: 60, payload: payload(40) });
  flanneld.send(packet, one.publicIp, PORT);
  await device.collect('the packet', 1, (seen) => seen[0]! >> 4 === 4 && seen[14] === 3);
  expect(three.process.alive).toBe(true);

  // IPv6 in the name of one that has none is nobody's
  flanneld.send(udp({ version: 6, source: [3, 2], destination: [1, 2], ttl: 60 }), one.publicIp, PORT);
  await until('it is counted', async () => (await one.process.status()).drops.rx_spoofed_source === 1);
});

function toV6(destination: string): Uint8Array {
  const [, subnet = '', host = ''] = /^fd00::(\d+):(\d+)$/.exec(destination) ?? [];
  return udp({
    version: 6,
    source: [1, 2],
    destination: [Number.parseInt(subnet, 16), Number(host)],
    ttl: 64,
    payload: payload(50),
  });
}
