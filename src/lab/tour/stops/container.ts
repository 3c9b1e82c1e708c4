/** What a container's network is made of. */
import { found, type Stop } from '../stop.js';

const namespaces: Stop = {
  name: 'namespaces',
  title: 'Network namespaces: a network stack of one’s own',
  lab: 'udp',
  async walk(guide) {
    guide.say(
      'A container is a process that the kernel shows another world, and for the network that world is a namespace: devices,\n' +
        'addresses, routes, firewall and ports of its own. The number tells which one a process lives in.',
    );
    const host = await guide.run('host1', 'readlink /proc/self/ns/net');
    const container = await guide.run('host1/c1', 'readlink /proc/self/ns/net');
    guide.notice('a host and its container have different namespaces', host.text !== container.text);
    const own = await guide.run('host1/c1', 'ip -brief address');
    const hosts = await guide.run('host1', 'ip -brief address');
    guide.notice(
      'the container has lo and eth0; it sees nothing of br0 and flannel0 of its host',
      /^eth0@/m.test(own.text) && !/br0|flannel0/.test(own.text) && /^br0/m.test(hosts.text),
    );
    guide.say('Even the loopback device is its own.');
    await guide.broken('host1/c2', 'ip link set lo down', 'ip link set lo up', async () => {
      const here = await guide.run('host1/c2', 'ping -c 1 -W 1 127.0.0.1');
      const there = await guide.run('host1/c1', 'ping -c 1 -W 5 127.0.0.1');
      guide.notice('c2 does not even reach itself; c1 never notices', here.status !== 0 && there.status === 0);
    });
  },
};

const veth: Stop = {
  name: 'veth',
  title: 'veth: a cable between two namespaces',
  lab: 'udp',
  async walk(guide) {
    guide.say(
      'A veth device is one end of a cable. What goes in here comes out there, and the ends may lie in different namespaces.',
    );
    const inside = await guide.run('host1/c1', 'ip -oneline link show eth0');
    const outside = await guide.run('host1', 'ip -oneline link show veth-c1');
    guide.say(
      '(link-netns is a name of that namespace. c4 shares the host’s and c5 that of c1, so it may say c4 for host1, and c5 for c1.)',
    );
    const [number, peer] = [found(outside.text, /^(\d+):/), found(inside.text, /eth0@if(\d+):/)];
    guide.notice(
      `eth0@if${peer} says that its other end is device ${number} of another namespace: veth-c1 of the host`,
      number !== '' && number === peer,
    );
    const gateway = found((await guide.run('host1/c1', 'ip route')).text, /default via (\S+)/);
    const before = await guide.run('host1/c1', `ping -c 1 -W 5 ${gateway}`);
    guide.notice('the host answers at the other end', before.status === 0);
    await guide.broken('host1', 'ip link set veth-c1 down', 'ip link set veth-c1 up', async () => {
      const link = await guide.run('host1/c1', 'ip -brief link show eth0');
      guide.notice('the container sees it as a pulled plug: no carrier', /NO-CARRIER/.test(link.text));
    });
    const after = await guide.run('host1/c1', `ping -c 1 -W 5 ${gateway}`);
    guide.notice('plugged in again, the host answers again', after.status === 0);
  },
};

const bridge: Stop = {
  name: 'bridge',
  title: 'Bridge: the switch that a host’s containers are plugged into',
  lab: 'udp',
  async walk(guide) {
    guide.say(
      'Each container has a cable; the host joins the ends by a bridge, a switch of software. Docker calls its own docker0.',
    );
    const ports = await guide.run('host1', 'bridge link show');
    guide.notice(
      'the host’s ends of the cables are its ports',
      /veth-c1.*master br0/.test(ports.text) && /veth-c2.*master br0/.test(ports.text),
    );
    const second = found((await guide.run('host1/c2', 'ip -4 -oneline address show eth0')).text, /inet ([\d.]+)/);
    await guide.run('host1/c1', `ping -c 1 -W 5 ${second}`);
    const entries = await guide.run('host1', 'bridge fdb show br br0 dynamic');
    const mac = found((await guide.run('host1/c2', 'ip -brief link show eth0')).text, /([0-9a-f:]{17})/);
    guide.notice('it has learned behind which port each MAC address is', entries.text.includes(`${mac} dev veth-c2`));
    const report = await guide.trace({ from: 'host1/c1', to: 'host1/c2', protocol: 'icmp' });
    guide.notice(
      'between two containers of a host a packet passes the bridge only: no route, no host’s address, the TTL stays 64',
      report.there.every(({ inner }) => inner?.ttl === 64) && report.there.length === 4,
    );
    await guide.broken('host1', 'ip link set veth-c2 nomaster', 'ip link set veth-c2 master br0', async () => {
      const lost = await guide.run('host1/c1', `ping -c 1 -W 1 ${second}`);
      guide.notice('a cable that is in no port leads nowhere, though both ends are up', lost.status !== 0);
    });
  },
};

const modes: Stop = {
  name: 'modes',
  title: 'none, host, container: what Docker’s other network modes are',
  lab: 'udp',
  async walk(guide) {
    guide.say(
      '`docker run --network` chooses which namespace a container gets, and what is put into it. This lab was made with\n' +
        '--mode c3=none --mode c4=host --mode c5=container:c1; c1 and c2 are on the bridge.',
    );
    const none = await guide.run('host1/c3', 'ip -brief address');
    guide.notice(
      'none: a namespace of its own with nothing but lo',
      /^lo\b/.test(none.text) && !none.text.includes('\n'),
    );
    const host = await guide.run('host1', 'readlink /proc/self/ns/net');
    const shared = await guide.run('host1/c4', 'readlink /proc/self/ns/net');
    guide.notice(
      'host: the very namespace of the host, with its address, its ports, its firewall',
      host.text === shared.text,
    );
    const one = await guide.run('host1/c1', 'ip -4 -brief address show eth0');
    const five = await guide.run('host1/c5', 'ip -4 -brief address show eth0');
    guide.notice(
      'container:c1: two containers, one network; they meet at localhost, and share its ports. A pod of Kubernetes is made so',
      one.text === five.text && one.text !== '',
    );
    guide.say('What bridge mode does can be done by hand, for c3: a cable, a port of the bridge, an address, a route.');
    const gateway = found(one.text, /inet|([\d.]+)\/\d+/).replace(/\.\d+$/, '.1');
    const namespace = `${guide.lab.name}-host1-c3`;
    const cable = `ip link add veth-hand type veth peer name eth0 netns ${namespace} && ip link set veth-hand master br0 up`;
    await guide.run('host1', cable);
    try {
      const address = gateway.replace(/\.1$/, '.200');
      await guide.run(
        'host1/c3',
        `ip address add ${address}/24 dev eth0 && ip link set eth0 up && ip route add default via ${gateway}`,
      );
      const reached = await guide.run('host1/c3', `ping -c 1 -W 5 ${gateway}`);
      guide.notice('with that c3 is on the network', reached.status === 0);
    } finally {
      await guide.run('host1', 'ip link delete veth-hand');
    }
    const gone = await guide.run('host1/c3', 'ip -brief address');
    guide.notice('a cable has two ends: with one of them both are gone', !gone.text.includes('eth0'));
  },
};

export const containerStops = { namespaces, veth, bridge, modes };
