/** The two faults of every overlay, found by the operator's tools. */
import { found, type Stop } from '../stop.js';

const mtu: Stop = {
  name: 'mtu',
  title: 'An MTU hole: small packets pass, large ones vanish',
  lab: 'udp',
  async walk(guide) {
    guide.say(
      'Somewhere on the way a link carries less than the interfaces at both ends say. Pings pass, logins work, and every transfer hangs. In this\n' +
        'lab it is a port of the switch, which tells nobody what it drops.',
    );
    const peer = guide.lab.host('host2').address;
    const address = found((await guide.run('host2/c1', 'ip -4 -oneline address show eth0')).text, /inet ([\d.]+)/);
    await guide.broken('switch', 'ip link set host2 mtu 1400', 'ip link set host2 mtu 1500', async () => {
      const small = await guide.run('host1/c1', `ping -c 1 -W 5 ${address}`);
      const large = await guide.run('host1/c1', `ping -c 1 -W 2 -M do -s 1444 ${address}`);
      guide.notice('56 bytes come back, 1444 do not', small.status === 0 && large.status !== 0);
      const ping = await guide.run('host1', `tweed ping ${peer}`);
      guide.notice(
        'tweed ping tries full-size packets too, finds what passes, and names the command that mends it',
        ping.status !== 0 && ping.text.includes('carries 1400 bytes'),
      );
      const report = await guide.trace({ from: 'host1/c1', to: 'host2/c1', protocol: 'icmp', size: 1472 });
      guide.notice(
        'the trace shows where',
        report.verdict.text.includes('an MTU hole') && report.there.at(-1)?.place === 'switch',
      );
    });
    const mended = await guide.run('host1', `tweed ping ${peer}`);
    guide.notice(
      'mended: full-size packets pass',
      mended.status === 0 && mended.text.includes('full-size packets of 1472 bytes'),
    );
  },
};

const port: Stop = {
  name: 'port',
  title: 'A closed port: the hosts reach each other, the overlay does not',
  lab: 'udp',
  async walk(guide) {
    guide.say(
      'A firewall that was not told of the overlay’s port. The hosts ping each other; between containers there is silence.',
    );
    const peer = guide.lab.host('host2').address;
    const rule = 'INPUT -p udp -m udp --dport 8285 -j DROP';
    await guide.broken('host2', `iptables -I ${rule}`, `iptables -D ${rule}`, async () => {
      const underlay = await guide.run('host1', `ping -c 1 -W 5 ${peer}`);
      const ping = await guide.run('host1', `tweed ping ${peer} -c 1`);
      guide.notice(
        'tweed ping tells the halves apart: the underlay works, the overlay’s port does not',
        underlay.status === 0 && ping.text.includes('UDP port 8285 is dropped by a firewall'),
      );
      const doctor = await guide.run('host2', 'tweed doctor');
      guide.notice(
        'tweed doctor on the other host names the rule',
        /FAIL +firewall-input: .* refused by rule 1/.test(doctor.text),
      );
      const report = await guide.trace({ from: 'host1/c1', to: 'host2/c1', protocol: 'icmp' });
      guide.notice(
        'the trace shows the datagram coming in, and the rule that counted it',
        report.verdict.text.includes('a firewall rule of host2 refused it'),
      );
    });
    const mended = await guide.run('host1', `tweed ping ${peer} -c 1`);
    guide.notice('mended: the overlay works', mended.status === 0);
  },
};

export const faultStops = { mtu, port };
