import { describe, expect, it } from 'vitest';
import { redactUrls } from '../../../src/base/redact.js';
import { runFlags } from '../../../src/cli/flag-table.js';
import { editDistance, nearest } from '../../../src/cli/nearest.js';
import { readRunRequest } from '../../../src/cli/options.js';
import { renderConfig } from '../../../src/cli/print-config.js';
import { runUsage } from '../../../src/cli/usage.js';

const optionsOf = (...argv: string[]) => readRunRequest(argv, {}).options;

describe('options of the daemon', () => {
  it("are flannel's when nothing is said", () => {
    expect(optionsOf()).toEqual({
      registry: {
        endpoints: ['http://127.0.0.1:4001', 'http://127.0.0.1:2379'],
        prefix: '/coreos.com/network',
      },
      underlay: { interfaces: [], patterns: [], canReach: '', publicIp: '', publicIpv6: '' },
      lease: { ttlSeconds: 86_400, renewMarginSeconds: 3600, releaseOnExit: false, startFromCache: false },
      rules: { masquerade: false, fullyRandom: true, forward: true, blackhole: false, resyncSeconds: 5 },
      udp: {
        deviceName: 'flannel0',
        checkSenders: true,
        offloads: { tunTso: 'auto', tunUso: 'auto', udpGso: 'auto', udpGro: 'auto', udpBatch: 'auto' },
        forwarderThreads: 'auto',
        socketBuffer: 7_340_032,
        txQueueLength: 1000,
        kernelPath: 'off',
        kernelPathMerge: true,
      },
      wireguard: { engine: 'auto', keyFile: '/run/flannel/wgkey', socketDirectory: '/var/run/wireguard' },
      cleanUpOnExit: false,
      dropPrivileges: true,
      subnetFile: '/run/flannel/subnet.env',
      takeOver: false,
      runDirectory: '/run/tweed',
      health: { address: '0.0.0.0', port: 0 },
      logLevel: 'info',
    });
  });

  // What flanneld makes of the same: endpoints are split at commas, prefixes and files taken as they are, an empty address
  // of the health server is every address.
  it.each([
    ['-etcd-endpoints=http://a:2379,', 'registry', { endpoints: ['http://a:2379'] }],
    ['-etcd-endpoints=,http://a:1,,b:2', 'registry', { endpoints: ['http://a:1', 'b:2'] }],
    ['-etcd-endpoints=etcd:2379', 'registry', { endpoints: ['etcd:2379'] }],
    ['-etcd-endpoints=etcd_1.local', 'registry', { endpoints: ['etcd_1.local'] }],
    ['-etcd-endpoints=[::1]:2379', 'registry', { endpoints: ['[::1]:2379'] }],
    ['-etcd-endpoints=HTTPS://A:2379/', 'registry', { endpoints: ['HTTPS://A:2379/'] }],
    ['-etcd-prefix=kube-centos/network', 'registry', { prefix: 'kube-centos/network' }],
    ['-etcd-prefix=', 'registry', { prefix: '' }],
    ['-etcd-prefix=/a//b/', 'registry', { prefix: '/a//b/' }],
    ['-healthz-ip=', 'health', { address: '' }],
  ] as const)('%s is taken as flanneld takes it', (argument, member, expected) => {
    expect(optionsOf(argument)[member]).toMatchObject(expected);
  });

  it.each([
    ['auto', true],
    ['off', false],
  ])('merge single packets on the kernel path where that can be had, unless told otherwise: %s', (word, merged) => {
    expect(optionsOf(`-kernel-path-merge=${word}`).udp.kernelPathMerge).toBe(merged);
  });

  it.each(['on', 'Off', ''])('know no such merging: %j', (word) => {
    expect(() => optionsOf(`-kernel-path-merge=${word}`)).toThrow(/-kernel-path-merge/);
  });

  it('take a relative file from where the daemon was started, as flanneld does', () => {
    expect(optionsOf('-subnet-file=run/subnet.env').subnetFile).toBe(`${process.cwd()}/run/subnet.env`);
  });

  it('renew a short lease half-way, and a long one as the margin says', () => {
    expect(optionsOf('-subnet-ttl=10').lease.renewMarginSeconds).toBe(5);
    expect(optionsOf('-subnet-lease-renew-margin=1439').lease.renewMarginSeconds).toBe(86_340);
  });

  it.each([
    [[], 'info'],
    [['-v=1'], 'debug'],
    [['-v', '10'], 'trace'],
    [['-v=10', '-log-level=warn'], 'warn'],
  ])('log at the level that %j asks for', (argv, level) => {
    expect(optionsOf(...argv).logLevel).toBe(level);
  });

  it('name credentials only when there are any', () => {
    expect(optionsOf('-etcd-cafile=/ca', '-etcd-username=u', '-etcd-password=p').registry).toEqual({
      endpoints: ['http://127.0.0.1:4001', 'http://127.0.0.1:2379'],
      prefix: '/coreos.com/network',
      caFile: '/ca',
      username: 'u',
      password: 'p',
    });
  });

  it('want key and certificate together', () => {
    expect(() => optionsOf('-etcd-keyfile=/k')).toThrow('belong together');
  });

  it.each([
    [[], 'run'],
    [['-version'], 'version'],
    [['--check'], 'check'],
    [['--print-config', '--json'], 'print-config'],
  ])('%j wants %s', (argv, wants) => {
    expect(readRunRequest(argv, {}).wants).toBe(wants);
  });
});

describe('the configuration in force', () => {
  const request = (...argv: string[]) =>
    readRunRequest(argv, { FLANNELD_ETCD_PASSWORD: 'hunter2', FLANNELD_IFACE: 'eth1', TWEED_DEVICE: 'flannel7' });

  it('is shown with the origin of every value', () => {
    const shown = JSON.parse(renderConfig(request('--json', '--ip-masq', '-v=2')));
    expect(shown.iface).toEqual({ value: ['eth1'], from: 'FLANNELD_IFACE' });
    expect(shown.device).toEqual({ value: 'flannel7', from: 'TWEED_DEVICE' });
    expect(shown['ip-masq']).toEqual({ value: true, from: '-ip-masq' });
    expect(shown['log-level']).toEqual({ value: 'debug', from: '-v' });
    expect(shown['etcd-prefix']).toEqual({ value: '/coreos.com/network', from: 'default' });
    expect(Object.keys(shown)).not.toContain('kube-subnet-mgr');
  });

  it.each([[['--json']], [[]]])('hides passwords, with %j', (argv) => {
    const shown = renderConfig(request(...argv));
    expect(shown).not.toContain('hunter2');
    expect(shown).toContain('***');
  });
});

describe('redaction', () => {
  it.each([
    ['http://h:1', 'http://h:1'],
    ['http://u:p@h:1/x', 'http://u:***@h:1/x'],
    ['http://u:p@ss@h:1', 'http://u:***@h:1'],
    ['a http://u:p@h, https://v:q@i b', 'a http://u:***@h, https://v:***@i b'],
  ])('turns %s into %s', (text, redacted) => {
    expect(redactUrls(text)).toBe(redacted);
  });
});

describe('the nearest word', () => {
  it('counts edits', () => {
    expect(editDistance('kitten', 'sitting')).toBe(3);
    expect(editDistance('ifcae', 'iface')).toBe(1);
    expect(editDistance('', 'abc')).toBe(3);
  });

  it('is none when nothing is near', () => {
    expect(nearest('xylophone', ['iface', 'device'])).toBeNull();
  });
});

describe('the help text', () => {
  it('lists every flag of the table once, but neither hidden nor Kubernetes ones', () => {
    const text = runUsage('flanneld', runFlags);
    expect(text).toContain('Usage: flanneld [options]');
    expect(text.match(/^ {2}-iface NAME\|IP$/gm)).toHaveLength(1);
    expect(text).toContain('(/run/flannel/subnet.env)');
    expect(text).not.toMatch(/subnet-ttl|kube/);
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });
});
