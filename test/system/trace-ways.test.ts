/** `lab trace` over everything that carries packets: the kernel's backends, IPv6, and the kernel path, which no capture sees. */
import { describe, expect, it } from 'vitest';
import { daemonStatus } from '../../src/lab/daemon.js';
import type { Lab } from '../../src/lab/lab.js';
import type { TraceReport } from '../../src/lab/trace/report.js';
import { formatTrace } from '../../src/lab/trace/text.js';
import { waitFor } from '../../src/lab/wait.js';
import { useLab } from './support/lab.js';
import { broken, decisions, throughAll, traceBetween, way } from './support/trace.js';

const small = { hosts: 2, containers: 1, registry: 'directory' } as const;

describe.each([
  ['vxlan', 'flannel.1', /VXLAN header[\s\S]*the kernel's VXLAN, network 1/],
  ['wireguard', 'flannel-wg', /sealed: known by its length[\s\S]*WireGuard opens it/],
] as const)('a trace in a lab of %s', (backend, device, said) => {
  const lab = useLab({ ...small, backend });

  it('shows every device, and what the datagram carries as far as it can be read', async () => {
    await traceBetween(lab()); // a first packet may have to wait for a handshake
    const report = await traceBetween(lab());
    expect(report.verdict, formatTrace(report)).toMatchObject({ outcome: 'answered' });
    expect(way(report.there)).toEqual(throughAll('host1', 'host2', device));
    expect(decisions(report)).toMatch(said);
  });
});

describe('a trace in a lab of host-gw with both families', () => {
  const lab = useLab({ ...small, backend: 'host-gw', ipFamilies: 'dual', underlayFamily: 'dual' });

  it.each([4, 6] as const)('shows the packet itself on the wire, by IPv%d', async (family) => {
    const report = await traceBetween(lab(), { family });
    expect(report.verdict, formatTrace(report)).toMatchObject({ outcome: 'answered' });
    const direct = throughAll('host1', 'host2', '-').filter((hop) => !hop.includes(' - '));
    expect(way(report.there)).toEqual(direct);
    expect(report.there.map(({ packets }) => packets[0].carried)).toEqual(direct.map(() => null));
    expect(report.there.map(({ inner }) => inner?.ttl)).toEqual([64, 64, 64, 63, 63, 63, 63, 62, 62, 62]);
    const next = lab().host('host2').addresses[family === 4 ? 0 : 1];
    expect(decisions(report)).toContain(` via ${next} dev eth0`);
  });
});

describe('a trace in a lab of udp with both families', () => {
  const lab = useLab({ ...small, ipFamilies: 'dual', underlayFamily: 'dual' });

  it('finds IPv6 inside of datagrams, there and back', async () => {
    const report = await traceBetween(lab(), { family: 6, back: true });
    expect(report.verdict, formatTrace(report)).toMatchObject({ outcome: 'answered' });
    expect(way(report.there)).toEqual(throughAll('host1', 'host2', 'flannel0'));
    expect(way(report.back)).toEqual(throughAll('host2', 'host1', 'flannel0'));
    expect(report.there[4]).toMatchObject({ packets: [{ family: 4 }], inner: { family: 6, ttl: 62 } });
    expect(formatTrace(report)).toMatch(/└ ICMPv6 echo request fd00:100:96:\S+ → fd00:100:96:\S+, TTL 62, 84 bytes/);
    expect(decisions(report)).toMatch(/peer: fd00:100:96:\S+ is host2's, at 192\.168\.65\.2; one datagram around it/);
    expect(decisions(report)).toContain('tweed checks sender and packet, and writes what is inside to flannel0');
  });

  it('names a neighbour that is gone', async () => {
    const gone = () => traceBetween(lab(), { timeoutMs: 4_000 });
    const report = await broken(lab(), 'host2', 'ip link set eth0 arp off', 'ip link set eth0 arp on', async () => {
      await lab().exec('host1', ['ip', 'neighbour', 'flush', 'dev', 'eth0']);
      return gone();
    });
    expect(report.verdict, formatTrace(report)).toMatchObject({ outcome: 'stopped' });
    expect(report.verdict.text).toContain('192.168.65.2 does not answer on eth0 when host1 asks where it is (ARP)');
  });
});

/** Whether the programs run there; where the kernel refuses them the tests of the kernel path say so. */
async function expectInForce(lab: Lab, mode: string): Promise<void> {
  for (const { name } of lab.hosts) {
    const status = await daemonStatus(lab.files, name);
    const feature = status?.backend?.features.find((one) => one.name === 'kernel_path');
    expect(feature, JSON.stringify(feature)).toMatchObject({ inForce: mode });
  }
}

describe('a trace in a lab with -kernel-path=route', () => {
  const lab = useLab({ ...small, daemonArgs: ['--kernel-path=route'] });

  it('says what the programs took, where no capture sees it, and who read the datagram', async () => {
    await expectInForce(lab(), 'route');
    const report = await traceBetween(lab(), { back: true });
    expect(report.verdict, formatTrace(report)).toMatchObject({ outcome: 'answered' });
    const without = throughAll('host1', 'host2', 'flannel0').filter((hop) => hop !== 'host1 flannel0 out');
    expect(way(report.there)).toEqual(without);
    expect(decisions(report)).toContain('kernel path: the program at flannel0 put it into a datagram');
    expect(decisions(report)).toContain("is host2's, at 192.168.65.2");
    expect(decisions(report)).toContain(
      'kernel path: the program at eth0 checks sender and packet, and gives what is inside to flannel0',
    );
    expect(decisions(report, report.back)).toContain('kernel path: the program at flannel0 put it into a datagram');
    expect(report.there.at(-1)?.inner?.ttl).toBe(60);
  });

  it('tells a packet that a program took and that got no further from one that nobody took', async () => {
    const report = await broken(lab(), 'host2', 'ip link set eth0 arp off', 'ip link set eth0 arp on', async () => {
      await lab().exec('host1', ['ip', 'neighbour', 'flush', 'dev', 'eth0']);
      return traceBetween(lab(), { timeoutMs: 4_000 });
    });
    expect(report.verdict, formatTrace(report)).toMatchObject({ outcome: 'stopped' });
    expect(way(report.there).at(-1)).toBe('host1 br0 in');
    expect(report.verdict.text).toContain(
      'coming into host1 by br0, where the program at flannel0 took it (kernel path), which no capture sees: 192.168.65.2 does not answer on eth0',
    );
    expect(decisions(report)).toContain('kernel path: the program at flannel0 took it');
  });
});

describe('a trace in a lab with -kernel-path=direct', () => {
  const lab = useLab({ ...small, daemonArgs: ['--kernel-path=direct'] });

  it('follows a packet of a known flow straight into the container', async () => {
    await expectInForce(lab(), 'direct');
    // packets take the route until a host knows where its container is
    const ways: TraceReport[] = [];
    const straight = async () => {
      const port = 7001 + ways.length;
      const report = await traceBetween(lab(), { protocol: 'tcp', port, size: 1000, listen: true, back: true });
      ways.unshift(report);
      const [there, back] = [report.there, report.back].map((steps) => way(steps).slice(-2).join());
      return there === 'host2 eth0 in,host2/c1 eth0 in' && back === 'host1 eth0 in,host1/c1 eth0 in';
    };
    await waitFor('packets to go straight, both ways', straight, { timeoutMs: 60_000, everyMs: 500 });
    const [report] = ways as [TraceReport];
    expect(report.verdict, formatTrace(report)).toMatchObject({ outcome: 'answered' });
    expect(decisions(report)).toContain(
      "the program at eth0 gave what is inside straight to host2/c1's link; no rule, route or bridge of host2 has seen it\nTTL 62 → 61",
    );
  });
});
