/** How packets get from host to host. */
import { daemonStatus } from '../../daemon.js';
import type { TraceReport } from '../../trace/report.js';
import { waitFor } from '../../wait.js';
import type { Guide } from '../guide.js';
import { found, type Stop } from '../stop.js';

const devices = ({ there }: TraceReport) => there.map(({ place, device }) => `${place} ${device}`);

const ping = { from: 'host1/c1', to: 'host2/c1', protocol: 'icmp' } as const;

const udp: Stop = {
  name: 'udp',
  title: 'The overlay of udp: a packet inside of a datagram, by way of user space',
  lab: 'udp',
  async walk(guide) {
    guide.say(
      'A container of another host has an address that the network between the hosts knows nothing of. The route to the whole overlay leads\n' +
        'to flannel0, a TUN device: what goes in there is read by a program, tweed. It looks up which host has the subnet, and\n' +
        'sends the packet there as the payload of a UDP datagram. tweed there writes it into its own flannel0.',
    );
    const route = await guide.run('host1', 'ip route');
    guide.notice(
      'one route for the overlay, to flannel0, and a closer one for the own subnet, to br0',
      /dev flannel0/.test(route.text) && /dev br0/.test(route.text),
    );
    const status = await guide.run('host1', 'tweed status');
    guide.notice(
      'the daemon knows the other host’s subnet and address',
      status.text.includes(guide.lab.host('host2').address),
    );
    const report = await guide.trace({ ...ping, back: true });
    const outer = report.there.find(
      ({ device, direction, place }) => place === 'host1' && device === 'eth0' && direction === 'out',
    );
    guide.notice('it arrived, and was answered', report.verdict.outcome === 'answered');
    guide.notice(
      'on the wire it is 28 bytes longer: an IP header of 20 and a UDP header of 8 around it, nothing else. So the overlay’s MTU is 1472',
      outer?.packets[0].length === (report.packet?.length ?? 0) + 28,
    );
    guide.notice(
      'four took one off the TTL: both hosts as routers, and tweed at both ends, as flannel does',
      report.there.at(-1)?.inner?.ttl === 60,
    );
    await guide.withoutDaemon('host2', async () => {
      const lost = await guide.trace(ping);
      guide.notice(
        'the datagram still gets to host2; nobody takes it there, and host2 says so by ICMP',
        lost.verdict.text.includes('its daemon is down') && lost.there.at(-1)?.place === 'host2',
      );
    });
  },
};

const vxlan: Stop = {
  name: 'vxlan',
  title: 'vxlan: the kernel does it, the daemon only tells it how',
  lab: 'vxlan',
  async walk(guide) {
    guide.say(
      'VXLAN puts whole Ethernet frames into datagrams, in the kernel. The daemon writes three things for each peer: a route to its subnet, the MAC\n' +
        'address of its device (a neighbour), and which host to send that MAC address to (a forwarding entry).',
    );
    const device = await guide.run(
      'host1',
      'ip -details -brief link show flannel.1 && ip -details link show flannel.1 | grep vxlan',
    );
    guide.notice(
      'flannel.1 is a vxlan device with a number and a port, and learns nothing by itself',
      /vxlan id 1 .*dstport 8472.*nolearning/.test(device.text),
    );
    const route = await guide.run('host1', 'ip route show dev flannel.1');
    const neighbours = await guide.run('host1', 'ip neighbour show dev flannel.1');
    const entries = await guide.run('host1', 'bridge fdb show dev flannel.1');
    const mac = found(neighbours.text, /lladdr ([0-9a-f:]{17})/);
    guide.notice(
      'route → neighbour → forwarding entry → host2',
      /onlink/.test(route.text) && entries.text.includes(`${mac} dst ${guide.lab.host('host2').address}`),
    );
    const report = await guide.trace(ping);
    guide.notice('it arrived, and was answered', report.verdict.outcome === 'answered');
    const outer = report.there.find(({ packets }) => packets[0].carried !== null);
    guide.notice(
      '50 bytes are around it, 22 more than with udp: the frame’s header of 14 and that of VXLAN of 8',
      outer?.packets[0].length === (report.packet?.length ?? 0) + 50,
    );
    guide.notice(
      'two took one off the TTL: the hosts as routers, and nobody else',
      report.there.at(-1)?.inner?.ttl === 62,
    );
    await guide.withoutDaemon('host1', async () => {
      const still = await guide.run('host1/c1', `ping -c 1 -W 5 ${found(report.what, /→ ([\d.]+)/)}`);
      guide.notice('the daemon is gone, and packets pass as before: they never met it', still.status === 0);
      await guide.run('host1', `bridge fdb delete ${mac} dev flannel.1 dst ${guide.lab.host('host2').address}`);
      const lost = await guide.trace(ping);
      guide.notice(
        'without the forwarding entry the frame goes into flannel.1 and nowhere else',
        lost.verdict.outcome === 'stopped' && devices(lost).at(-1) === 'host1 flannel.1',
      );
    });
    const again = await guide.run('host1/c1', `ping -c 1 -W 5 ${found(report.what, /→ ([\d.]+)/)}`);
    guide.notice('a daemon that starts puts back what is missing', again.status === 0);
  },
};

/** Why the kernel refuses the programs; empty where they run. It is awaited, for they are loaded behind everything else. */
async function refusalOfKernelPath({ lab }: Guide): Promise<string> {
  const feature = await waitFor('the kernel path to be there, or to say why not', async () => {
    const status = await daemonStatus(lab.files, 'host1');
    const found = status?.backend?.features.find(({ name }) => name === 'kernel_path');
    return found !== undefined && (found.inForce !== 'off' || found.reason !== '') && found;
  });
  return feature.inForce === 'off' ? feature.reason : '';
}

const kernel: Stop = {
  name: 'kernel-path',
  title: 'The kernel path: the wire format of udp without user space',
  lab: 'kernel',
  async walk(guide) {
    guide.say(
      'Two programs in the kernel (eBPF) do what tweed’s forwarders do, with the same bytes on the wire. What they do not take goes to user space\n' +
        'as before.',
    );
    const refusal = await refusalOfKernelPath(guide);
    await guide.run('host1', 'tweed status --verbose');
    if (refusal !== '') {
      guide.say(
        `Not here: the kernel does not let the programs run (${refusal}). Packets go through user space all the same.`,
      );
      return;
    }
    const programs = await guide.run('host1', 'tweed doctor --programs', 25);
    guide.notice('the kernel’s verifier has looked at them before they ran', /processed \d+ insns/.test(programs.text));
    const report = await guide.trace(ping);
    guide.notice('it arrived, and was answered', report.verdict.outcome === 'answered');
    guide.notice(
      'no capture saw it leave by flannel0: the program there has put it into a datagram and sent it on by eth0',
      !devices(report).includes('host1 flannel0') &&
        report.there.some(({ decisions }) => decisions.some((text) => text.startsWith('kernel path'))),
    );
    guide.notice(
      'the datagram is the same as that of user space, with the same TTL at the end',
      report.there.at(-1)?.inner?.ttl === 60,
    );
    const rule = 'INPUT -p udp --dport 8285 -j DROP';
    await guide.broken('host2', `iptables -I ${rule}`, `iptables -D ${rule}`, async () => {
      const still = await guide.run('host1/c1', `ping -c 1 -W 5 ${found(report.what, /→ ([\d.]+)/)}`);
      guide.notice(
        'a rule that closes the port stops nothing: the program of host2 has taken the datagram before any rule. It checks the sender itself',
        still.status === 0,
      );
    });
    const totals = await guide.run('host1', 'tweed status --verbose');
    const counted = (name: string) =>
      Number(found(totals.text, new RegExp(`\\b${name}\\D+([\\d,]+)`)).replaceAll(',', ''));
    guide.notice(
      'the daemon counts what the programs carried, as a part of all',
      counted('kernel tx packets') >= 2 && counted('kernel rx packets') >= 2,
    );
  },
};

export const overlayStops = { udp, vxlan, kernel };
