/** How containers and the world outside find each other. */
import type { Stop } from '../stop.js';

const gateway: Stop = {
  name: 'gateway',
  title: 'Gateway and SNAT: out into the internet under the host’s name',
  lab: 'udp',
  async walk(guide) {
    guide.say(
      'A container’s default route leads to the bridge’s own address: the host routes for it. But nobody outside knows the way to the\n' +
        'container’s address, so the host puts its own in its place, and remembers whose it was (SNAT, masquerading).',
    );
    const route = await guide.run('host1/c1', 'ip route');
    guide.notice('the container’s gateway is br0 of its host', /default via [\d.]+ dev eth0/.test(route.text));
    const rules = await guide.run('host1', 'iptables -t nat -S FLANNEL-POSTRTG');
    guide.notice(
      'the daemon (-ip-masq) wrote the rule that masquerades what leaves the overlay',
      /-j MASQUERADE/.test(rules.text),
    );
    const report = await guide.trace({ from: 'host1/c1', to: 'internet', protocol: 'icmp', back: true });
    const source = guide.lab.host('host1').address;
    const told = report.there.flatMap(({ decisions }) => decisions).join('\n');
    guide.notice(
      `on its way out the source becomes ${source}; the answer goes to the host, which gives it its old destination back`,
      told.includes(`→ ${source}, by nat -A FLANNEL-POSTRTG`) && report.verdict.outcome === 'answered',
    );
    const off = 'echo 0 > /proc/sys/net/ipv4/ip_forward';
    await guide.broken('host1', off, 'echo 1 > /proc/sys/net/ipv4/ip_forward', async () => {
      const lost = await guide.trace({ from: 'host1/c1', to: 'internet', protocol: 'icmp' });
      guide.notice(
        'a host that does not forward takes no packet that is not for itself: it ends where it comes in',
        lost.verdict.text.includes('does not forward') && lost.there.at(-1)?.place === 'host1',
      );
    });
  },
};

const publish: Stop = {
  name: 'publish',
  title: 'Published port and DNAT: in from the internet',
  lab: 'udp',
  async walk(guide) {
    guide.say(
      '`docker run -p 8080:80` writes a rule that gives what comes for a port of the host another destination: a container (DNAT).',
    );
    await guide.publish('host1:8080', 'host1/c1:80');
    try {
      const rules = await guide.run('host1', 'iptables -t nat -S PREROUTING');
      guide.notice(
        'the rule is there, for all local addresses',
        /--dport 8080 .*-j DNAT --to-destination/.test(rules.text),
      );
      const silent = await guide.trace({ from: 'internet', to: 'host1', protocol: 'tcp', port: 8080 });
      guide.notice(
        'it gets into the container; there nothing listens, and the kernel there says so with a RST',
        silent.verdict.outcome === 'refused' && silent.there.at(-1)?.place === 'host1/c1',
      );
      guide.say('Now with a program that listens in the container:');
      const report = await guide.trace({
        from: 'internet',
        to: 'host1',
        protocol: 'tcp',
        port: 8080,
        listen: true,
        back: true,
      });
      const told = report.there.flatMap(({ decisions }) => decisions).join('\n');
      guide.notice(
        'the destination was changed where the packet came in, before the route was chosen; the answer’s source on its way back',
        report.verdict.outcome === 'answered' &&
          told.indexOf('DNAT') < told.lastIndexOf('route:') &&
          told.includes('DNAT'),
      );
    } finally {
      guide.say('Take it back:');
      await guide.unpublish('host1:8080');
    }
    const closed = await guide.trace({ from: 'internet', to: 'host1', protocol: 'tcp', port: 8080 });
    guide.notice(
      'without the rule the packet is for the host itself, and there nothing listens',
      closed.verdict.outcome === 'refused' && closed.there.at(-1)?.place === 'host1',
    );
  },
};

export const outsideStops = { gateway, publish };
