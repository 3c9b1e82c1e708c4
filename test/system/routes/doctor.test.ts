import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { backendKind } from '../../../src/backend/select.js';
import { ExecError } from '../../../src/base/exec.js';
import { type Prefix, parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import { parseIpv6, parseIpv6Prefix } from '../../../src/base/ipv6.js';
import { runChecks } from '../../../src/operator/doctor/finding.js';
import { hostChecks } from '../../../src/operator/doctor/host-checks.js';
import { type DoctorQuestion, gatherHostFacts } from '../../../src/operator/doctor/host-facts.js';
import { makeNamespace, type TestNamespace } from './namespace.js';

const question: DoctorQuestion = {
  backend: backendKind('udp'),
  port: 8285,
  outerFamilies: [4],
  portV6: 8285,
  device: 'flannel0',
  ownDevices: ['flannel0'],
  network: parsePrefix('10.5.0.0/16') as Prefix,
  subnet: parsePrefix('10.5.8.0/24') as Prefix,
  networkV6: null,
  subnetV6: null,
  deviceV6: 'flannel0',
  underlay: null,
  rulesMode: 'iptables',
  peers: [],
  daemonPid: null,
  wantedBuffer: 7_000_000,
  wireguard: null,
};

let host: TestNamespace;
beforeEach(async () => {
  host = await makeNamespace();
});
afterEach(() => host.remove());

async function examine(more: Partial<DoctorQuestion> = {}): Promise<Record<string, string>> {
  const readText = async (path: string) => {
    try {
      return await host.print('cat', path);
    } catch (thrown) {
      if (thrown instanceof ExecError) return null;
      throw thrown;
    }
  };
  const facts = await gatherHostFacts({ ...question, ...more }, { run: host.run, readText });
  return Object.fromEntries(runChecks(hostChecks, facts).map(({ id, level, text }) => [id, `${level}: ${text}`]));
}

describe('doctor in a namespace', () => {
  it('sees a plain host as it is', async () => {
    await host.run(['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
    const found = await examine();
    expect(found).toMatchObject({
      'ip-forward': expect.stringMatching(/^ok/),
      'capability-net-admin': expect.stringMatching(/^ok/),
      'tun-device': expect.stringMatching(/^ok/),
      'udp-port': 'ok: UDP port 8285 is free',
      'firewall-input': expect.stringMatching(/^ok/),
      'firewall-forward': expect.stringMatching(/^ok/),
      'overlapping-networks': expect.stringMatching(/^ok/),
    });
  });

  it('sees what is wrong: port, firewall, addresses, reverse path filter', async () => {
    await host.run(['ip', '-batch', '-'], {
      input: 'link add v0 type veth peer name v1\nlink set v0 up\naddress add 10.5.40.1/24 dev v0\n',
    });
    await host.run(['sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=1', 'net.ipv4.ip_forward=0']);
    for (const words of [
      ['-P', 'INPUT', 'DROP'],
      ['-P', 'FORWARD', 'DROP'],
    ])
      await host.run(['iptables', ...words]);
    const script = `require('dgram').createSocket('udp4').bind(8285, '0.0.0.0', () => console.log('bound'))`;
    const holder = spawn('ip', ['netns', 'exec', host.name, process.execPath, '-e', script]);
    try {
      await once(holder.stdout, 'data');
      const found = await examine();
      expect(found).toMatchObject({
        'udp-port': expect.stringMatching(/^fail: .*held by node \(process \d+\) on 0\.0\.0\.0/),
        'firewall-input': expect.stringMatching(/^fail/),
        'firewall-forward': expect.stringMatching(/^fail.*no jump to FLANNEL-FWD/),
        'overlapping-networks': expect.stringMatching(/10\.5\.40\.1\/24 of v0/),
        'rp-filter': expect.stringMatching(/^warn/),
        'ip-forward': expect.stringMatching(/^fail/),
      });
    } finally {
      holder.kill();
      await once(holder, 'close');
    }
  });

  it.each<[string, string, string]>([
    ['-I INPUT -p udp --dport 8285 -j DROP', 'firewall-input', 'fail: .* refused by rule 1 of iptables-nft INPUT'],
    ['-I INPUT ! -i lo -p udp -j REJECT', 'firewall-input', 'fail: .* refused by rule 1 of iptables-nft INPUT'],
    ['-I FORWARD -d 10.5.0.0/16 -j DROP', 'firewall-forward', 'fail: .* refused by rule 1 of iptables-nft FORWARD'],
    [
      '-t raw -I PREROUTING -p udp -j DROP',
      'firewall-input',
      'fail: .* refused by rule 1 of iptables-nft -t raw PREROU',
    ],
    ['-I OUTPUT -p udp --dport 8285 -j DROP', 'firewall-output', 'fail: .* refused by rule 1 of iptables-nft OUTPUT'],
    [
      '-I INPUT -p udp -m length --length 1000: -j DROP',
      'firewall-input',
      'warn: cannot judge rule 1 of iptables-nft INPUT',
    ],
    ['-I INPUT -p tcp -m length --length 1000: -j DROP', 'firewall-input', 'ok'],
  ])('judges the rule %s', async (rule, id, expected) => {
    await host.run(['iptables-nft', ...rule.split(' ')]);
    expect((await examine())[id]).toMatch(new RegExp(`^${expected}`));
  });

  /** The overlay has both families, and vxlan's datagrams of IPv6 travel by IPv6. */
  const dual = {
    ...{ backend: backendKind('vxlan'), port: 8472, device: 'flannel.1', deviceV6: 'flannel-v6.1' },
    ...{ outerFamilies: [4, 6] as const, portV6: 8472 },
    networkV6: parseIpv6Prefix('fd00:5::/48'),
    subnetV6: parseIpv6Prefix('fd00:5:0:8::/64'),
    underlay: {
      ...{ name: 'eth0', index: 2, address: parseIpv4('192.0.2.10') as number, prefixLength: 24, mtu: 1500 },
      ipv6: { address: parseIpv6('2001:db8::10') as bigint, prefixLength: 64 },
    },
  };

  it.each<[string, string, string]>([
    [
      '-I INPUT -p udp --dport 8472 -j DROP',
      'firewall-input',
      'fail: .*by IPv6 is refused by rule 1 of ip6tables-nft INPUT',
    ],
    ['-I INPUT -s 2001:db8::/64 -p udp -j DROP', 'firewall-input', 'fail: .* rule 1 of ip6tables-nft INPUT'],
    ['-I INPUT -s 2001:db8:1::/64 -p udp -j DROP', 'firewall-input', 'ok'],
    ['-I OUTPUT -p udp --dport 8472 -j DROP', 'firewall-output', 'fail: .* rule 1 of ip6tables-nft OUTPUT'],
    [
      '-I FORWARD -d fd00:5::/48 -j DROP',
      'firewall-forward',
      'fail: .*IPv6 packet into .* rule 1 of ip6tables-nft FORWARD',
    ],
    [
      '-I FORWARD -i flannel-v6.1 -j REJECT',
      'firewall-forward',
      'fail: .*IPv6 packet out of .* rule 1 of ip6tables-nft',
    ],
    [
      '-I INPUT -p udp -m length --length 1000: -j DROP',
      'firewall-input',
      'warn: cannot judge rule 1 of ip6tables-nft',
    ],
  ])('judges the rule %s of IPv6', async (rule, id, expected) => {
    await host.run(['ip', '-batch', '-'], {
      input: `link add br0 type bridge\nlink set br0 up\naddress add 10.5.8.1/24 dev br0
address add fd00:5:0:8::1/64 dev br0 nodad\n`,
    });
    await host.run(['ip6tables-nft', ...rule.split(' ')]);
    const found = await examine(dual);
    expect(found[id]).toMatch(new RegExp(`^${expected}`));
    // whose network has no IPv6 does not hear of it
    expect((await examine())[id]).toMatch(/^ok/);
  });

  it('judges the port and the device that wireguard has for IPv6', async () => {
    const wireguard = { backend: backendKind('wireguard'), port: 51_820, portV6: 51_821 };
    const devices = { device: 'flannel-wg', deviceV6: 'flannel-wg-v6' };
    await host.run(['ip', '-batch', '-'], {
      input: `link add br0 type bridge\nlink set br0 up\naddress add 10.5.8.1/24 dev br0
address add fd00:5:0:8::1/64 dev br0 nodad\n`,
    });
    for (const rule of ['-I INPUT -p udp --dport 51821 -j DROP', '-I FORWARD -i flannel-wg-v6 -j DROP']) {
      await host.run(['ip6tables-nft', ...rule.split(' ')]);
    }
    expect(await examine({ ...dual, ...wireguard, ...devices })).toMatchObject({
      'firewall-input': expect.stringMatching(
        /^fail: .* port 51821 by IPv6 is refused by rule 1 of ip6tables-nft INPUT/,
      ),
      'firewall-output': expect.stringMatching(/^ok/),
      'firewall-forward': expect.stringMatching(/^fail: .*IPv6 packet out of .* rule 1 of ip6tables-nft FORWARD/),
    });
  });

  it.each(['ip6', 'inet'])('sees a firewall in a table of %s', async (family) => {
    await host.run(['nft', '-f', '-'], {
      input: `table ${family} mine {
  chain in { type filter hook input priority 0; policy drop; ${family === 'inet' ? 'meta nfproto ipv4 accept;' : ''} }
  chain through { type filter hook forward priority 0; ip6 saddr fd00:5::/48 drop; }
}`,
    });
    expect(await examine({ ...dual, rulesMode: 'nftables' })).toMatchObject({
      'firewall-input': expect.stringMatching(
        new RegExp(`^fail: a peer's datagram .* by IPv6 is refused by the policy of nftables ${family} mine in$`),
      ),
      'firewall-output': expect.stringMatching(/^ok/),
      'firewall-forward': expect.stringMatching(
        new RegExp(`^fail: a container's IPv6 packet .* refused by rule 1 of nftables ${family} mine through`),
      ),
    });
  });

  it('sees an nftables firewall', async () => {
    await host.run(['nft', '-f', '-'], {
      input: 'table inet mine { chain in { type filter hook input priority 0; policy drop; tcp dport 22 accept; }; }',
    });
    expect((await examine({ rulesMode: 'nftables' }))['firewall-input']).toMatch(
      /^fail: .* refused by the policy of nftables inet mine in$/,
    );
    await host.run(['nft', 'insert', 'rule', 'inet', 'mine', 'in', 'udp', 'dport', '{ 53, 8280-8290 }', 'accept']);
    expect((await examine({ rulesMode: 'nftables' }))['firewall-input']).toMatch(/^ok/);
  });

  it('sees rules as firewalld makes them, and its own advice as the cure', async () => {
    // zones are chains, to which packets go by device or source; what no zone takes is rejected at the end
    await host.run(['nft', '-f', '-'], {
      input: `table inet firewalld {
  chain public_allow { tcp dport 22 ct state { new, untracked } accept; }
  chain public { jump public_allow; meta l4proto icmp accept; }
  chain trusted { accept; }
  chain zones { goto public; }
  chain filter_INPUT {
    type filter hook input priority 10; policy accept;
    ct state { established, related } accept; iifname "lo" accept; ct state invalid drop;
    jump zones; reject with icmpx admin-prohibited;
  }
  chain filter_FORWARD {
    type filter hook forward priority 10; policy accept;
    ct state { established, related } accept; jump zones; reject with icmpx admin-prohibited;
  }
}`,
    });
    const examined = () => examine({ rulesMode: 'nftables' });
    expect(await examined()).toMatchObject({
      'firewall-input': expect.stringMatching(/^fail: .* refused by rule \d+ of nftables inet firewalld filter_INPUT/),
      'firewall-forward': expect.stringMatching(
        /^fail: .* refused by rule \d+ of nftables inet firewalld filter_FORWARD/,
      ),
    });
    await host.run(['nft', '-f', '-'], {
      input: `add rule inet firewalld public_allow udp dport 8285 ct state { new, untracked } accept
insert rule inet firewalld zones ip saddr 10.5.0.0/16 goto trusted
`,
    });
    expect(await examined()).toMatchObject({
      'firewall-input': expect.stringMatching(/^ok/),
      'firewall-forward': expect.stringMatching(/^ok/),
    });
  });
});
