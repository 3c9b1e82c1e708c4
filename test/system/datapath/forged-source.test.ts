/**
 * A container that sends datagrams from a peer's address to its own host. The socket takes what comes in by any interface,
 * since a host may be reached by several, and which one is right is the routing's to say; so it is the kernel that has to
 * refuse them, with the filter that exists for it (docs/security.md).
 */
import { expect, it } from 'vitest';
import { payload, udp } from '../../unit/encap/support/packets.js';
import { address, PORT } from './support/host.js';
import { startAll, useSite } from './support/site.js';
import { Udp } from './support/sockets.js';
import { until } from './support/until.js';

const site = useSite();

it('is refused by rp_filter=1 on the interface of the container, and by that alone', async () => {
  const [one, two] = [site().host(1), site().host(2)];
  await startAll([one, two], site().mtu);
  await one.container.ip('address add 192.168.77.2/32 dev eth0', 'route add 192.168.77.1/32 dev eth0');
  const forger = new Udp(one.container, { address: address('192.168.77.2'), port: PORT });
  const packet = udp({ source: [2, 2], destination: [1, 2], ttl: 60, payload: payload(40) });
  const received = async () => (await one.process.status()).totals.rx_packets ?? 0;

  one.namespace.sysctl('ipv4/conf/all/rp_filter', 0);
  one.namespace.sysctl('ipv4/conf/br0/rp_filter', 2);
  forger.send(packet, one.publicIp, PORT);
  await until('the forged datagram is taken', async () => (await received()) > 0);

  one.namespace.sysctl('ipv4/conf/br0/rp_filter', 1);
  const before = await received();
  for (let i = 0; i < 10; i++) forger.send(packet, one.publicIp, PORT);
  // what the peer itself sends afterwards still comes, and is all that does
  const ping = await two.container.run('ping', '-n', '-c', '3', '-i', '0.2', '10.5.1.2');
  expect(ping.stdout).toContain(' 0% packet loss');
  expect((await received()) - before).toBe(3);
});
