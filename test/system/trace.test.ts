/** `lab trace`: what it says of a packet that arrives, and of one that does not. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { patient } from '../../src/lab/patience.js';
import { traceable } from '../../src/lab/trace/places.js';
import { formatTrace } from '../../src/lab/trace/text.js';
import { trace } from '../../src/lab/trace/trace.js';
import { exec } from '../support/exec.js';
import { useLab } from './support/lab.js';
import { broken, decisions, throughAll, traceBetween, way } from './support/trace.js';

const program = fileURLToPath(new URL('../../dist/cli/tweed.cjs', import.meta.url));

describe('a trace in a lab of udp', () => {
  const lab = useLab({ hosts: 2, containers: 2 });

  it('shows every device there and back, the routes, the peer and each TTL', async () => {
    const report = await traceBetween(lab(), { back: true });
    expect(report.verdict, formatTrace(report)).toMatchObject({ outcome: 'answered' });
    expect(way(report.there)).toEqual(throughAll('host1', 'host2', 'flannel0'));
    expect(way(report.back)).toEqual(throughAll('host2', 'host1', 'flannel0'));
    expect(report.there.map(({ inner }) => inner?.ttl)).toEqual([64, 64, 64, 63, 62, 62, 62, 62, 61, 60, 60, 60]);
    expect(report.there[4].packets[0]).toMatchObject({ length: 112, ports: { destination: 8285 } });
    expect(decisions(report)).toMatch(/route: default via [\d.]+ dev eth0/);
    expect(decisions(report)).toContain('route: 100.96.0.0/16 dev flannel0');
    expect(decisions(report)).toContain("is host2's, at 192.168.65.2; one datagram around it");
    for (const step of report.there.slice(1)) expect(step.sinceLast).toBeGreaterThanOrEqual(0);
  });

  it('follows fragments and a super-packet to the other end', async () => {
    const large = await traceBetween(lab(), { size: 4000 });
    expect(large.verdict, formatTrace(large)).toMatchObject({ outcome: 'answered' });
    expect(large.there.at(-1)?.packets).toHaveLength(3);
    const ends = { from: 'host1/c1', to: 'host2/c1', protocol: 'tcp', port: 7001 } as const;
    const segment = await trace(traceable(lab()), { ...ends, size: 6000, listen: true });
    expect(segment.verdict, formatTrace(segment)).toMatchObject({ outcome: 'answered' });
    // one packet of all that was written, or of its beginning where TCP sends it in parts: a full segment at least
    expect(segment.packet?.payloadLength).toBeGreaterThanOrEqual(1420);
  });

  it('tells a published port: which rules changed which addresses, and where it leads', async () => {
    await lab().publish({ host: 'host1', hostPort: 8080, targetHost: 'host2', targetContainer: 'c1', targetPort: 80 });
    const report = await trace(traceable(lab()), {
      from: 'internet',
      to: 'host1',
      protocol: 'tcp',
      port: 8080,
      listen: true,
    });
    expect(report.verdict, formatTrace(report)).toMatchObject({ outcome: 'answered' });
    expect(report.there.at(-1)).toMatchObject({ place: 'host2/c1' });
    expect(decisions(report)).toMatch(
      /DNAT: destination 192\.168\.65\.1 port 8080 → \S+ port 80, by nat -A PREROUTING/,
    );
    expect(decisions(report)).toMatch(/SNAT: source 203\.0\.113\.1 .*-j MASQUERADE/);
  });

  it('names an MTU hole: where, how long it was, what passes there', async () => {
    const [fault, cure] = [1400, 1500].map((mtu) => `ip link set host2 mtu ${mtu}`);
    const report = await broken(lab(), 'switch', fault, cure, () => traceBetween(lab(), { size: 1472 }));
    expect(way(report.there).at(-1)).toBe('switch host1 in');
    expect(report.verdict.outcome).toBe('stopped');
    expect(report.verdict.text).toContain(
      'an MTU hole: it has 1500 bytes there, and host2 of switch takes no more than 1400',
    );
    expect(report.verdict.mend).toBe('exec switch -- ip link set host2 mtu 1500');
    // the command that it names is the one that mends it
    expect((await traceBetween(lab(), { size: 1472 })).verdict.outcome).toBe('answered');
  });

  it('names a closed port of a container, and the rule that closes the port of the overlay', async () => {
    for (const [protocol, said] of [
      ['tcp', 'TCP RST'],
      ['udp', 'ICMP port unreachable'],
    ] as const) {
      const report = await trace(traceable(lab()), { from: 'host1/c1', to: 'host2/c1', protocol, port: 9 });
      expect(report.verdict, formatTrace(report)).toMatchObject({ outcome: 'refused' });
      expect(report.verdict.text).toContain(`nothing listens at ${protocol.toUpperCase()} port 9 there`);
      expect(report.verdict.evidence[0]).toContain(said);
    }
    const rule = 'INPUT -p udp -m udp --dport 8285 -j DROP';
    const report = await broken(lab(), 'host2', `iptables -I ${rule}`, `iptables -D ${rule}`, () =>
      traceBetween(lab()),
    );
    expect(way(report.there).at(-1)).toBe('host2 eth0 in');
    expect(report.verdict.text).toContain('a firewall rule of host2 refused it');
    expect(report.verdict.mend).toBe(`exec host2 -- iptables -t filter -D ${rule}`);
  });

  it('says that there is no route: in the overlay, and in the container itself', async () => {
    const nobody = await trace(traceable(lab()), { from: 'host1/c1', to: '100.96.0.9', protocol: 'icmp', back: true });
    expect(way(nobody.there).at(-1), formatTrace(nobody)).toBe('host1 flannel0 out');
    expect(nobody.verdict.text).toContain('no host of the overlay has a subnet with 100.96.0.9');
    expect(nobody.verdict.evidence.join('\n')).toMatch(/network unreachable[\s\S]*tx_no_route by 1/);
    expect(way(nobody.back).at(-1)).toBe('host1/c1 eth0 in');
    const route = (await lab().exec('host1/c2', ['ip', 'route', 'show', 'default'])).stdout.trim();
    const none = await broken(lab(), 'host1/c2', 'ip route delete default', `ip route add ${route}`, () =>
      trace(traceable(lab()), { from: 'host1/c2', to: 'host2/c1', protocol: 'udp', port: 9 }),
    );
    expect(none.there).toEqual([]);
    expect(none.verdict.text).toMatch(/^host1\/c2 has no route to/);
    expect(none.verdict.evidence.join('\n')).toMatch(/unreachable[\s\S]*ENETUNREACH/);
  });

  it('notices a daemon that is down', async () => {
    await lab().stopDaemon('host2');
    try {
      const report = await traceBetween(lab());
      expect(report.verdict.text, formatTrace(report)).toContain(
        'nothing listens at UDP port 8285 of host2: its daemon is down',
      );
    } finally {
      await lab().startDaemon('host2');
      await lab().waitForPeers();
    }
  });

  it('is a command, which writes a page that stands alone and ends with 1 where the packet does not arrive', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'tweed-trace-'));
    const page = join(folder, 'trace.html');
    const run = (...words: string[]) =>
      exec([process.execPath, program, 'lab', '--name', lab().name, 'trace', ...words], {
        tolerate: true,
        timeoutMs: patient(60_000),
      });
    try {
      const good = await run('host1/c1', 'host2/c1', '--back', '--html', page);
      expect(good.stdout).toMatch(
        /✓ it arrived at host2\/c1 \(eth0\) after [\d.]+ ms, and was answered with ICMP echo reply/,
      );
      expect(good.status).toBe(0);
      const html = await readFile(page, 'utf8');
      expect(html).toContain('prefers-color-scheme: dark');
      expect(html.match(/<svg /g)).toHaveLength(2);
      expect(html).not.toMatch(/<script|(?:src|href)="http/);
    } finally {
      await rm(folder, { recursive: true });
    }
    const bad = await run('host1/c1', 'host2/c1', '--tcp', '9');
    expect(bad.stdout).toContain('✗ it arrived at host2/c1');
    expect(bad.status).toBe(1);
    expect((await run('host1/c1', 'host9')).stderr).toContain('has no address');
  });
});
