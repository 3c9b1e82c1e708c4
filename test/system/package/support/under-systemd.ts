/** The service under the real systemd, which is process 1 of a machine of its own: what the unit promises, and what only systemd does. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Bpf } from '../../../../src/kernel-path/bpf.js';
import { patient } from '../../../../src/lab/patience.js';
import { deviceAddress, eventually, TestNetwork } from '../../daemon/hosts.js';
import { Traffic } from '../../daemon/traffic.js';
import { Machine, whyNoSystemd } from './machine.js';

const reason = whyNoSystemd();

const options = (...more: string[]) =>
  [
    'FLANNELD_ETCD_ENDPOINTS=file:///var/lib/registry',
    'FLANNELD_IFACE=eth0',
    'FLANNELD_IP_MASQ=true',
    // room for as many packets as come while a slow machine starts Node
    'TWEED_TXQUEUELEN=30000',
    ...more,
    '',
  ].join('\n');

/** @param debian gives the package's path, once the tests run */
export function describeUnderSystemd(debian: () => string): void {
  describe.skipIf(reason !== '')(`the Debian package where systemd runs ${reason}`, () => tests(debian));
}

function tests(debian: () => string): void {
  let network: TestNetwork;
  let machine: Machine;
  let traffic: Traffic | null = null;

  beforeAll(async () => {
    network = await TestNetwork.create();
    const registry = fileURLToPath(network.endpoint.replace('-etcd-endpoints=', ''));
    machine = await Machine.boot(network.hosts[0], { debian: debian(), registry, options: options() });
    network.hosts[1].start([network.endpoint]);
  });
  afterEach(async () => {
    await traffic?.end();
    traffic = null;
  });
  afterAll(async () => {
    await machine?.remove();
    await network?.remove();
  });

  const deviceIndex = async () => (await machine.run('cat', '/sys/class/net/flannel0/ifindex')).stdout.trim();

  it('has its service started, and is waited for until it is ready', async () => {
    await machine.install();
    await machine.systemctl('start', 'tweed');
    const [first, second] = network.hosts;
    const { ready, lease } = await first.status();
    expect(ready).toBe(true);
    expect(await machine.property('StatusText')).toContain(lease?.subnet);
    expect(await machine.property('SubState')).toBe('running');
    // the device and the socket
    expect(await machine.property('NFileDescriptorStore')).toBe('2');
    expect((await machine.run('cat', '/run/docker_opts.env')).stdout).toContain('--bip=');
    await Promise.all([first.ready(1), second.ready(1)]);
    await first.reaches(deviceAddress(await second.status()));
  });

  /** Another process runs, and is ready. */
  const replaced = (former: string) =>
    eventually(async () => {
      expect(await machine.property('MainPID')).not.toBe(former);
      expect(await machine.property('SubState')).toBe('running');
    });

  it.each<[string, number, () => Promise<unknown>]>([
    ['systemctl restart', 2, () => machine.systemctl('restart', 'tweed')],
    ['an upgrade', 1, () => machine.install()],
    ['systemctl kill', 2, () => machine.systemctl('kill', '--signal=KILL', 'tweed')],
  ])('keeps the device, and every packet, when it is replaced by %s', async (way, rounds, replace) => {
    const killed = way === 'systemctl kill' ? rounds : 0;
    const [first, second] = network.hosts;
    const index = await deviceIndex();
    traffic = await Traffic.between(first, second);
    for (let round = 0; round < rounds; round++) {
      const former = await machine.property('MainPID');
      await replace();
      await replaced(former);
      expect(await machine.property('NFileDescriptorStore')).toBe('2');
    }
    const { lost, streams } = await traffic.result();
    expect(streams).toBe('whole');
    // one that is killed takes with it what it has read and not sent yet: a turn's worth each time
    expect(lost).toBeLessThanOrEqual(killed * 64);
    expect(await deviceIndex()).toBe(index);
    expect(await machine.property('NRestarts')).toBe(String(killed));
  });

  it('keeps a kernel path, by which packets go on while no process runs', async () => {
    const [first, second] = network.hosts;
    second.start([network.endpoint, '-kernel-path=route', '-take-over']);
    const lines = [
      '[Service]',
      'Environment=TWEED_KERNEL_PATH=route',
      // as the unit says
      'CapabilityBoundingSet=CAP_BPF CAP_PERFMON',
      'AmbientCapabilities=CAP_BPF CAP_PERFMON',
      'SystemCallFilter=bpf',
      `RestartSec=${patient(3)}`,
      '',
    ];
    await machine.write('/usr/lib/systemd/machine/tweed.service.d/kernel-path.conf', lines.join('\n'));
    await machine.systemctl('daemon-reload');
    await machine.systemctl('restart', 'tweed');
    /** The device, the socket, the ways out, in, and by the merge pair; and packets by them. */
    const carried = () =>
      eventually(async () => {
        expect(await machine.property('NFileDescriptorStore')).toBe('5');
        const { kernel_tx_packets: sent = 0, kernel_rx_packets: came = 0 } =
          (await first.status()).backend?.totals ?? {};
        expect(Math.min(sent, came)).toBeGreaterThan(100);
      });
    const running = await Traffic.between(first, second);
    traffic = running;
    await carried();
    await machine.systemctl('restart', 'tweed');
    await carried();
    const former = await machine.property('MainPID');
    await machine.systemctl('kill', '--signal=KILL', 'tweed');
    await eventually(async () => expect(await machine.property('SubState')).toBe('auto-restart'));
    const before = running.received;
    await sleep(1500);
    expect(await machine.property('SubState')).toBe('auto-restart');
    for (const [i, count] of running.received.entries()) expect(count - (before[i] ?? 0)).toBeGreaterThan(750);
    await replaced(former);
    await carried();
    expect(await running.result()).toEqual({ lost: 0, streams: 'whole' });
  });

  it('lets everything go when it is stopped', async () => {
    await machine.systemctl('stop', 'tweed');
    expect(await machine.property('Result')).toBe('success');
    expect(await machine.property('NFileDescriptorStore')).toBe('0');
    expect(await deviceIndex()).toBe('');
    // the other host has its own
    const links = () => new Bpf().links().filter(({ name }) => name === 'tweed_encap');
    await eventually(() => expect(links()).toHaveLength(1));
    expect((await machine.run('cat', '/run/flannel/subnet.env')).stdout).toContain('FLANNEL_SUBNET=');
  });

  it('is not started again and again with options that cannot be used', async () => {
    await machine.write('/etc/tweed.env', options('FLANNELD_IFACE_REGEX=(', 'TWEED_FORWARDER_THREADS=many'));
    expect((await machine.run('systemctl', 'start', 'tweed')).status).not.toBe(0);
    expect(await machine.property('SubState')).toBe('failed');
    expect(await machine.property('ExecMainStatus')).toBe('2');
    expect(await machine.property('NRestarts')).toBe('0');
  });
}
