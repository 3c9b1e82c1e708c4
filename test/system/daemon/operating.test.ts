import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deviceAddress, eventually, type RunningDaemon, TestNetwork } from './hosts.js';

let network: TestNetwork;
let daemon: RunningDaemon;

beforeAll(async () => {
  network = await TestNetwork.create();
  [daemon] = await network.startBoth('-healthz-port=8081', '-healthz-ip=127.0.0.1', '--ip-masq');
});
afterAll(() => network.remove());

/** Metrics, their labels and reasons of drops that the alerts and the dashboard ask for and the daemon does not export. */
async function missingFrom(metrics: string): Promise<string[]> {
  const packaging = new URL('../../../packaging/', import.meta.url);
  const texts = ['prometheus/alerts.yml', 'grafana/tweed.json'].map((file) =>
    fs.readFile(new URL(file, packaging), 'utf8'),
  );
  const asked = (await Promise.all(texts)).join('\n');
  const samples = metrics.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  const exported = new Set(samples.map((line) => line.split(/[ {]/)[0]));
  const names = new Set([...asked.matchAll(/\b(?:tweed|process)_[a-z0-9_]+\b/g)].map(([name]) => name));
  const reasons = [...asked.matchAll(/reason=~\\?"([^"\\]+)/g)].flatMap(([, some = '']) => some.split('|'));
  const labels = new Set([...asked.matchAll(/(?:\$labels\.|\{\{|by \()(\w+)/g)].map(([, label]) => label));
  const exportedLabels = new Set([...metrics.matchAll(/[{,](\w+)="/g)].map(([, label]) => label));
  expect([names.size > 15, reasons.length > 3, labels.size > 2]).toEqual([true, true, true]);
  return [
    ...[...names].filter((name) => !exported.has(name)),
    ...reasons.filter((reason) => !metrics.includes(`{reason="${reason}"}`)),
    // these two Prometheus adds
    ...[...labels].filter((label) => !exportedLabels.has(label) && !['instance', 'job'].includes(label as string)),
  ] as string[];
}

describe('a running daemon', () => {
  it('is asked for its status, in text and in JSON', async () => {
    const [host, other] = network.hosts;
    await host.reaches(deviceAddress(await other.status()));
    const { stdout, status: code } = await host.tweed('status');
    expect(code).toBe(0);
    const peer = (await other.status()).lease?.subnet;
    expect(stdout).toMatch(new RegExp(`^  ${peer}  192\\.168\\.77\\.2 `, 'm'));
    expect(stdout).toMatch(/^tweed \S+, process \d+, up .*, ready$/m);
    expect(stdout).toMatch(/^ {2}registry +directory file:.*, connected$/m);
    const json = JSON.parse((await host.tweed('status', '--json')).stdout);
    expect(json).toMatchObject({ schema: 1, ready: true, backend: { device: 'flannel0', peers: [{ subnet: peer }] } });
    expect(json.backend.peers[0].rxPackets).toBeGreaterThan(0);
  });

  it('answers health checks and gives metrics', async () => {
    const [host] = network.hosts;
    expect(await host.get('http://127.0.0.1:8081/healthz')).toEqual([200, 'flanneld is running']);
    expect(await host.get('http://127.0.0.1:8081/readyz')).toEqual([200, 'flanneld is ready']);
    const [code, metrics] = await host.get('http://127.0.0.1:8081/metrics');
    expect(code).toBe(200);
    expect(metrics).toMatch(/^tweed_peer_receive_packets_total\{peer="192.168.77.2",subnet="[^"]+"\} [1-9]/m);
    expect(metrics).toMatch(/^tweed_dropped_packets_total\{reason="rx_unknown_sender"\} \d+$/m);
    expect(await missingFrom(metrics)).toEqual([]);
  });

  it('changes its log level, dumps its status on SIGUSR1, and goes on after SIGHUP', async () => {
    const [host] = network.hosts;
    expect((await host.tweed('log-level', 'debug')).stdout).toBe('debug\n');
    expect((await host.status()).logLevel).toBe('debug');
    expect((await host.tweed('log-level', 'loud')).status).toBe(2);
    daemon.signal('SIGUSR1');
    await daemon.says('"status":{"schema":1');
    daemon.signal('SIGHUP');
    await daemon.says('SIGHUP');
    expect((await host.status()).ready).toBe(true);
  });

  it('puts back what is taken away: address, route, rules', async () => {
    const [host] = network.hosts;
    const before = await host.status();
    await host.run('ip', 'address', 'flush', 'dev', 'flannel0');
    await host.run('ip', 'route', 'flush', 'dev', 'flannel0');
    await host.run('iptables', '-t', 'nat', '-F', 'FLANNEL-POSTRTG');
    await eventually(async () => {
      expect((await host.status()).repairs).toBeGreaterThan(before.repairs);
      expect((await host.run('ip', 'address', 'show', 'dev', 'flannel0')).stdout).toContain(deviceAddress(before));
      expect((await host.run('ip', 'route')).stdout).toContain('100.96.0.0/16 dev flannel0');
      expect((await host.run('iptables', '-t', 'nat', '-S', 'FLANNEL-POSTRTG')).stdout).toContain('MASQUERADE');
    });
    await host.reaches(deviceAddress(await network.hosts[1].status()));
  });
});

describe('a daemon that hangs', () => {
  it('has no registry guessed in its place, and doctor says that it is there', async () => {
    const [host] = network.hosts;
    const { process: pid } = await host.status();
    const endpoint = network.endpoint.replace('-etcd', '--etcd');
    process.kill(pid, 'SIGSTOP');
    try {
      for (const words of [['leases'], ['network', 'set', '{"Network":"10.99.0.0/16"}']]) {
        const { status, stdout, stderr } = await host.tweed(...words);
        expect([status, stdout]).toEqual([1, '']);
        expect(stderr).toMatch(
          /^tweed: which registry is meant is the daemon's to say, .* no answer within 5 s.*--etcd-endpoints\n$/,
        );
      }
      expect((await host.tweed('leases', endpoint)).status).toBe(0);
      const { stdout } = await host.tweed('doctor', '--json', endpoint);
      expect(JSON.parse(stdout)).toContainEqual(
        expect.objectContaining({ id: 'daemon', level: 'fail', text: expect.stringContaining('no answer within 5 s') }),
      );
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  });
});

describe('tweed ping', () => {
  it('says that the overlay works, whatever way the peer is named', async () => {
    const [host, other] = network.hosts;
    const subnet = (await other.status()).lease?.subnet ?? '';
    for (const target of ['192.168.77.2', subnet, deviceAddress(await other.status())]) {
      const { stdout, status } = await host.tweed('ping', '-c1', target);
      expect([stdout, status]).toEqual([expect.stringContaining('the overlay works'), 0]);
    }
  });

  it('takes the size and the pace that ping takes, and refuses a flood in one line', async () => {
    const [host] = network.hosts;
    const { stdout, status } = await host.tweed('ping', '-c', '2', '-i', '0.1', '-s', '1000', '--json', '192.168.77.2');
    const { overlay, underlay } = JSON.parse(stdout);
    expect([status, underlay.full.bytes, overlay.full.bytes, overlay.full.received]).toEqual([0, 1028, 1028, 2]);
    const flood = await host.tweed('ping', '-f', '192.168.77.2');
    expect([flood.status, flood.stderr]).toEqual([2, expect.stringMatching(/^tweed: -f: .*\n$/)]);
  });

  it('tells what is not the overlay', async () => {
    const [host] = network.hosts;
    const own = (await host.status()).lease?.subnet ?? '';
    expect((await host.tweed('ping', own)).stdout).toContain("this host's own subnet");
    const unleased = await host.tweed('ping', '100.96.255.1');
    expect([unleased.status, unleased.stderr]).toEqual([1, expect.stringContaining('no host has leased')]);
  });

  it('says which half fails', async () => {
    const [host, other] = network.hosts;
    const blocked = ['INPUT', '-p', 'udp', '--dport', '8285', '-j', 'DROP'];
    await other.run('iptables', '-I', ...blocked);
    const overlay = await host.tweed('ping', '-c1', '192.168.77.2');
    await other.run('iptables', '-D', ...blocked);
    expect([overlay.stdout, overlay.status]).toEqual([
      expect.stringContaining('the overlay fails though the underlay works'),
      1,
    ]);
    await other.run('ip', 'link', 'set', 'eth0', 'down');
    const underlay = await host.tweed('ping', '-c1', '192.168.77.2');
    await other.run('ip', 'link', 'set', 'eth0', 'up');
    expect([underlay.stdout, underlay.status]).toEqual([expect.stringContaining('the underlay fails'), 1]);
  });
});

describe('tweed top', () => {
  it('shows what flows, page behind page where there is no terminal', async () => {
    const [host, other] = network.hosts;
    await host.reaches(deviceAddress(await other.status()));
    const { stdout, status } = await host.tweed('top', '--count', '2', '--interval', '0.2');
    expect([stdout.match(/^tweed .* ready, flannel0 by udp/gm)?.length, status]).toEqual([2, 0]);
    expect(stdout).toMatch(/^192\.168\.77\.2 +100\.96\.\d+\.0\/24 +[\d,]+ pkt\/s /m);
    expect(stdout).not.toContain('\x1b');
  });

  it('has a screen of its own on a terminal, until q', async () => {
    const [host] = network.hosts;
    // script(1) makes a terminal for what it runs
    const command = `stty rows 24 columns 80; ${host.tweedWords('top', '--interval', '0.2').join(' ')}; echo "ended $?"`;
    const words = ['netns', 'exec', host.namespace, 'script', '--quiet', '--command', command, '/dev/null'];
    const terminal = spawn('ip', words, { stdio: ['pipe', 'pipe', 'inherit'] });
    let shown = '';
    terminal.stdout.on('data', (chunk: Buffer) => {
      if (!shown.includes('q quits') && `${shown}${chunk}`.includes('q quits')) terminal.stdin.write('q');
      shown += chunk;
    });
    await once(terminal, 'close');
    expect(shown).toContain('\x1b[?1049h');
    expect(shown.slice(shown.lastIndexOf('\x1b[?1049l'))).toContain('ended 0');
  });
});

describe('tweed report', () => {
  it('is one file for root alone, with all its parts', async () => {
    const [host] = network.hosts;
    const file = path.join(host.directory, 'report.tar.gz');
    const endpoint = network.endpoint.replace('-etcd', '--etcd');
    const { stdout, stderr, status } = await host.tweed('report', '--output', file, endpoint);
    expect([stderr, status]).toEqual(['', 0]);
    expect(stdout).toContain(`${file}, 16 files`);
    expect((await fs.stat(file)).mode & 0o777).toBe(0o600);
    const listed = await host.run('tar', '-tzf', file);
    const names = listed.stdout
      .trim()
      .split('\n')
      .map((name) => path.basename(name));
    expect(names).toEqual(
      expect.arrayContaining(['README.txt', 'status.json', 'options.txt', 'doctor.txt', 'log.txt']),
    );
    const text = gunzipSync(await fs.readFile(file)).toString();
    expect(text).toMatch(/flannel0: <POINTOPOINT/);
    expect(text).toMatch(/-A FLANNEL-POSTRTG/);
    expect((await host.tweed('report', '--output', file, endpoint)).stderr).toContain('EEXIST'); // never written over
  });
});

describe('the other commands', () => {
  it('work on the registry', async () => {
    const [host] = network.hosts;
    const leases = JSON.parse(
      (await host.tweed('leases', '--json', network.endpoint.replace('-etcd', '--etcd'))).stdout,
    );
    expect(leases.leases.map(({ publicIp }: { publicIp: string }) => publicIp).sort()).toEqual([
      '192.168.77.1',
      '192.168.77.2',
    ]);
  });

  it('make options for Docker from the subnet file', async () => {
    const [host] = network.hosts;
    const { stdout } = await host.tweed('docker-opts', '-f', host.subnetFile, '-d', '-', '-c');
    expect(stdout).toMatch(/^DOCKER_OPTS=" --bip=100\.96\.\d+\.1\/24 --ip-masq=false --mtu=1472"\n$/);
  });

  it('examine the host, daemon and registry included', async () => {
    const [host] = network.hosts;
    await host.run('sysctl', '-w', 'net.ipv4.ip_forward=1');
    const endpoint = network.endpoint.replace('-etcd', '--etcd');
    const { stdout } = await host.tweed('doctor', '--json', '--iface', 'eth0', endpoint);
    const findings = JSON.parse(stdout) as { id: string; level: string }[];
    const level = Object.fromEntries(findings.map((finding) => [finding.id, finding.level]));
    expect(level).toMatchObject({
      daemon: 'ok',
      underlay: 'ok',
      registry: 'ok',
      'network-config': 'ok',
      'udp-port': 'ok',
    });
  });
});
