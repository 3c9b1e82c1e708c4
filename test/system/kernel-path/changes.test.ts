/** Hosts and containers that come, go and change while others talk, under every setting: whoever is there is reached. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { address, leaseOf } from '../datapath/support/host.js';
import { connect, Namespace } from '../datapath/support/namespace.js';
import { type Host, useSite } from '../datapath/support/site.js';
import { file, ping, sendFile } from '../datapath/support/transfer.js';
import { carriedByKernel, expectInForce } from './support/by.js';
import { expectNoLeftovers } from './support/leftovers.js';

const MIB = 1 << 20;

const site = useSite({ hosts: 3 });
/** Namespaces of further containers. */
const others: Namespace[] = [];
afterEach(async () => {
  await site().stop();
  for (const other of others.splice(0)) other.close();
  await expectNoLeftovers(site().hosts);
});

/** Gives a container a link to its host's bridge. @param link the host's end of it */
async function plugIn(host: Host, container: Namespace, link: string, ...addresses: string[]): Promise<void> {
  await connect(host.namespace, link, container, 'eth0');
  const { innerMtu } = site();
  await host.namespace.ip(`link set ${link} master br0 mtu ${innerMtu}`);
  await container.ip(
    `link set eth0 mtu ${innerMtu}`,
    ...addresses.map((one) => `address add ${one}/24 dev eth0`),
    `route add default via 10.5.${host.number}.1`,
  );
}

/** Another container of a host. */
async function another(host: Host, link: string, ...addresses: string[]): Promise<Namespace> {
  const container = new Namespace();
  others.push(container);
  await plugIn(host, container, link, ...addresses);
  return container;
}

/** Tells a host which of its containers has an address, as a gratuitous ARP of the container's would. */
async function claim(host: Host, container: Namespace, claimed: string): Promise<void> {
  const { stdout } = await container.run('ip', '-json', 'link', 'show', 'dev', 'eth0');
  const [link] = JSON.parse(stdout) as [{ readonly address: string }];
  await host.namespace.ip(`neighbour replace ${claimed} lladdr ${link.address} dev br0 nud reachable`);
}

/** Talks between two containers until it is told to end, and goes on to the end of what it has begun. */
function talk(from: Host, to: Host): { end(): Promise<number> } {
  let over = false;
  let files = 0;
  const talking = (async () => {
    while (!over) {
      await sendFile(from.end, to.end, file(2 * MIB, files));
      files++;
    }
    return files;
  })();
  return {
    end: () => {
      over = true;
      return talking;
    },
  };
}

describe.each(['off', 'route', 'direct'] as const)('with -kernel-path=%s', (kernelPath) => {
  beforeEach(async () => {
    await site().start({ kernelPath });
    await expectInForce(site().hosts, kernelPath);
  });
  const expectByKernel = async (host: Host, packets: number) => {
    if (kernelPath !== 'off') expect(await carriedByKernel(host)).toBeGreaterThan(packets);
  };

  it('a host comes, goes and comes back at other addresses, while two others talk', async () => {
    const there = site();
    const [one, two, three] = [there.host(1), there.host(2), there.host(3)];
    const talking = talk(one, two);
    const leases = [one, two].map(({ number, publicIp }) => leaseOf(number, publicIp, kernelPath));
    const [first, second] = leases as [(typeof leases)[0], (typeof leases)[0]];
    for (const last of [30, 31, 32]) {
      await three.process.stop();
      await one.process.setPeers([second]);
      await two.process.setPeers([first]);
      await three.namespace.ip(`address replace 192.168.77.${last}/24 dev eth0`);
      const publicIp = address(`192.168.77.${last}`);
      const third = leaseOf(3, publicIp, kernelPath);
      await three.process.start(publicIp, there.mtu, leases, { kernelPath });
      await one.process.setPeers([second, third]);
      await two.process.setPeers([first, third]);
      await Promise.all([
        sendFile(one.end, three.end, file(MIB, last)),
        sendFile(three.end, two.end, file(MIB, last + 1)),
      ]);
      await expectByKernel(three, 500);
    }
    for (const last of [30, 31, 32]) await three.namespace.ip(`address del 192.168.77.${last}/24 dev eth0`);
    expect(await talking.end()).toBeGreaterThan(0);
    await expectByKernel(one, 2000);
    for (const { process } of [one, two])
      expect((await process.status()).drops).toMatchObject({ rx_spoofed_source: 0 });
  });

  it('a container is replaced by another of the same address', async () => {
    const [one, two] = [site().host(1), site().host(2)];
    await ping(one.container, two.containerIp, 56);
    await two.namespace.ip('link delete vc');
    const successor = await another(two, 'vc', '10.5.2.2');
    await ping(successor, one.containerIp, 56);
    await sendFile(one.end, { namespace: successor, address: two.containerIp }, file(MIB, 1));
    // and the first one's link again
    await two.namespace.ip('link delete vc');
    await plugIn(two, two.container, 'vc', '10.5.2.2');
    await ping(two.container, one.containerIp, 56);
    await sendFile(one.end, two.end, file(MIB, 2));
    await expectByKernel(one, 500);
  });

  it('an address goes from container to container', async () => {
    const [one, two] = [site().host(1), site().host(2)];
    const other = await another(two, 'vd', '10.5.2.3');
    const shared = address('10.5.2.9');
    for (const holder of [two.container, other, two.container]) {
      await holder.ip('address add 10.5.2.9/24 dev eth0');
      // the holder says so to the bridge, as one does who takes over an address
      await ping(holder, address('10.5.2.1'), 8, 1);
      await two.namespace.ip('neighbour flush dev br0');
      await sendFile(one.end, { namespace: holder, address: shared }, file(MIB, 1));
      await holder.ip('address del 10.5.2.9/24 dev eth0');
    }
    await two.namespace.ip('link delete vd');
    await expectByKernel(one, 500);
  });

  it('two containers share an address for a moment: the one that keeps it is reached as before', async () => {
    const [one, two] = [site().host(1), site().host(2)];
    await sendFile(one.end, two.end, file(MIB, 1));
    const double = await another(two, 'vd', '10.5.2.3', '10.5.2.2');
    await ping(double, address('10.5.2.1'), 8, 1);
    await claim(two, double, '10.5.2.2');
    await sendFile(one.end, { namespace: double, address: two.containerIp }, file(MIB, 2));
    await claim(two, two.container, '10.5.2.2');
    await double.ip('address del 10.5.2.2/24 dev eth0');
    await sendFile(one.end, two.end, file(MIB, 3));
    await sendFile(two.end, one.end, file(MIB, 4));
    await two.namespace.ip('link delete vd');
    await sendFile(one.end, two.end, file(MIB, 5));
    await expectByKernel(one, 500);
  });

  it('the link of a container is renamed and put into another bridge amid a transfer, which goes on', async () => {
    const [one, two] = [site().host(1), site().host(2)];
    const change = async () => {
      await two.namespace.ip(
        'link set vc down',
        'link set vc name renamed',
        'link add br1 type bridge',
        'link set br1 up',
        'link set renamed master br1',
        'address del 10.5.2.1/24 dev br0',
        'address add 10.5.2.1/24 dev br1',
        'link set renamed up',
      );
      // it need not wait until it doubts the former bridge's MAC
      await two.container.ip('neighbour flush dev eth0');
    };
    let changing: Promise<void> | null = null;
    await sendFile(one.end, two.end, file(8 * MIB, 1), (total) => {
      if (total > MIB) changing ??= change();
    });
    await changing;
    await sendFile(two.end, one.end, file(MIB, 2));
    await two.namespace.ip(
      'link set renamed down',
      'link set renamed name vc',
      'link set vc master br0',
      'link delete br1',
      'address add 10.5.2.1/24 dev br0',
      'link set vc up',
    );
    await ping(two.container, one.containerIp, 56);
    await sendFile(one.end, two.end, file(MIB, 3));
    await expectByKernel(one, 500);
  });
});
