import fs from 'node:fs/promises';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import { deviceAddress, eventually, networkConfig, TestNetwork } from './hosts.js';

let network: TestNetwork;

afterEach(() => network.remove());

describe('coming up and going down', () => {
  it('leases a subnet, makes device, address, route and subnet file as flannel does, and takes the device away again', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    const daemon = host.start([network.endpoint, '--ip-masq']);
    const status = await host.ready();
    const subnet = deviceAddress(status);
    expect(await fs.readFile(host.subnetFile, 'utf8')).toBe(
      `FLANNEL_NETWORK=100.96.0.0/16\nFLANNEL_SUBNET=${subnet.replace(/0$/, '1')}/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n`,
    );
    const address = (await host.run('ip', 'address', 'show', 'dev', 'flannel0')).stdout;
    expect(address).toContain('mtu 1472');
    expect(address).toContain(`inet ${subnet}/32 scope global`);
    expect((await host.run('ip', 'route', 'show', 'dev', 'flannel0')).stdout).toContain('100.96.0.0/16');
    const stored = (await network.registry.list()).leases;
    expect(stored).toMatchObject([{ key: `${subnet}-24`, attributes: { publicIp: parseIpv4(host.address) } }]);

    expect(await daemon.stop('SIGTERM')).toBe(0);
    expect(daemon.output).not.toContain('cut short'); // it keeps the time itself
    expect((await host.run('ip', 'link', 'show', 'flannel0')).status).not.toBe(0);
    expect((await host.run('ip', 'route', 'show')).stdout).not.toContain('100.96');
    expect((await network.registry.list()).leases).toHaveLength(1);
    await expect(host.status()).rejects.toThrow('no daemon answers');
  });

  it('knows its peers, and ends in time, although iptables hangs', async () => {
    network = await TestNetwork.create();
    const [host, other] = network.hosts;
    const iptables = path.join(host.directory, 'iptables');
    await fs.writeFile(iptables, '#!/bin/sh\necho $$ > "$0.pid"\nexec sleep 600\n', { mode: 0o755 });
    const daemon = host.start([network.endpoint], { environment: { PATH: `${host.directory}:${process.env.PATH}` } });
    const rest = other.start([network.endpoint]);
    await eventually(async () => expect((await host.status()).backend?.peers).toHaveLength(1));
    expect(await host.status()).toMatchObject({ ready: false });
    const pid = Number(await fs.readFile(`${iptables}.pid`, 'utf8'));

    // It keeps the time itself, and did not wait for what hangs longer than any test may take.
    expect(await daemon.stop('SIGTERM')).toBe(0);
    expect(daemon.output).not.toContain('cut short');
    expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    await rest.stop();
  });

  it('gives the lease back on exit when told to', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    const daemon = host.start([network.endpoint, '-release-on-exit']);
    await host.ready();
    expect(await daemon.stop('SIGINT')).toBe(0);
    expect((await network.registry.list()).leases).toEqual([]);
  });

  it('waits for the configuration, and for a good one, and can be stopped meanwhile', async () => {
    network = await TestNetwork.create(null);
    const [host] = network.hosts;
    const first = host.start([network.endpoint]);
    await first.says('waiting for');
    await eventually(async () => {
      expect(await host.status()).toMatchObject({ phase: 'waiting', ready: false, lease: null });
    });
    expect((await host.tweed('status', '--ready')).status).toBe(1);
    expect(await first.stop()).toBe(0);

    const second = host.start([network.endpoint]);
    await second.says('waiting for');
    await network.registry.setConfig('{"Network":"100.96.0.0/30"}', null);
    await second.says('the smallest useful network is a /28');
    await network.registry.setConfig('{"Network":"100.96.0.0/16","Backend":{"Type":"udp","Port":70000}}', null);
    await second.says('Backend.Port');
    await network.registry.setConfig(networkConfig, null);
    await host.ready();
    expect((await host.tweed('status', '--ready')).status).toBe(0);
  });

  it('refuses a backend that it does not have, and lists those that it has', async () => {
    network = await TestNetwork.create('{"Network":"100.96.0.0/16","Backend":{"Type":"aws-vpc"}}');
    const daemon = network.hosts[0].start([network.endpoint]);
    expect(await daemon.exited).toBe(1);
    expect(daemon.output).toMatch(/^tweed: tweed has no backend "aws-vpc"; .*udp/m);
    expect(daemon.output).not.toContain('    at ');
  });

  it('shows passwords nowhere: not in the log, not among the processes', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    const daemon = host.start([network.endpoint, '-etcd-password=hunter2', '-v=10']);
    const { process: pid } = await host.ready();
    expect(await fs.readFile(`/proc/${pid}/cmdline`, 'utf8')).not.toContain('hunter2');
    expect(await daemon.stop()).toBe(0);
    expect(daemon.output).toContain('"etcd-password":"***"');
    expect(daemon.output).not.toContain('hunter2');
  });

  it('runs as flanneld, configured by the environment alone', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    const environment = {
      FLANNELD_ETCD_ENDPOINTS: network.endpoint.replace('-etcd-endpoints=', ''),
      FLANNELD_IP_MASQ: '1',
    };
    const daemon = host.start([], { binary: 'flanneld.cjs', environment });
    await host.ready();
    expect(await fs.readFile(host.subnetFile, 'utf8')).toContain('FLANNEL_IPMASQ=true');
    expect(await daemon.stop()).toBe(0);
  });
});

describe('a second daemon for one network', () => {
  it('is refused and leaves the first alone', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    host.start([network.endpoint]);
    const before = await host.ready();
    const second = host.start([network.endpoint]);
    expect(await second.exited).toBe(1);
    expect(second.output).toContain(
      `another tweed (process ${before.process}) already serves the network 100.96.0.0/16`,
    );
    expect((await host.status()).process).toBe(before.process);
    expect((await host.run('ip', 'link', 'show', 'flannel0')).status).toBe(0);
  });
});

describe('a daemon that is killed', () => {
  it('comes back with its subnet, and its peers reach it again', async () => {
    network = await TestNetwork.create();
    const [first, second] = network.hosts;
    const [daemon] = await network.startBoth();
    const subnet = (await first.status()).lease?.subnet;
    await daemon.stop('SIGKILL');
    first.start([network.endpoint]);
    expect((await first.ready(1)).lease?.subnet).toBe(subnet);
    await second.reaches(deviceAddress(await first.status()));
  });
});

describe('a host that changes its public address', () => {
  it('keeps its subnet, at run time', async () => {
    network = await TestNetwork.create();
    const [first, second] = network.hosts;
    await network.startBoth();
    const before = await first.status();
    await second.reaches(deviceAddress(before));
    await first.run('ip', 'address', 'del', '192.168.77.1/24', 'dev', 'eth0');
    await first.run('ip', 'address', 'add', '192.168.77.111/24', 'dev', 'eth0');
    await eventually(async () => {
      const status = await first.status();
      expect(status).toMatchObject({
        ready: true,
        lease: { subnet: before.lease?.subnet, publicIp: '192.168.77.111' },
      });
    });
    await second.reaches(deviceAddress(before));
    expect((await network.registry.list()).leases).toHaveLength(2);
  });

  it('follows its interface to another MTU', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    host.start([network.endpoint]);
    await host.ready();
    await host.run('ip', 'link', 'set', 'eth0', 'mtu', '1400');
    await eventually(async () => {
      expect(await host.status()).toMatchObject({ ready: true, backend: { mtu: 1372 } });
      expect(await fs.readFile(host.subnetFile, 'utf8')).toContain('FLANNEL_MTU=1372');
    });
  });
});

describe('a daemon whose subnet is lost', () => {
  it('stops forwarding and ends with the reason', async () => {
    network = await TestNetwork.create();
    const [host] = network.hosts;
    const daemon = host.start([network.endpoint]);
    const status = await host.ready();
    const [own] = (await network.registry.list()).leases;
    await network.registry.remove(own!);
    const subnet = parsePrefix(status.lease?.subnet ?? '')!;
    // The daemon takes its subnet again as soon as it sees that it is gone; the other host has to be faster once.
    await network.registry
      .create({ subnet, subnetV6: null }, { publicIp: parseIpv4('192.168.77.99')!, publicIpv6: null }, 60)
      .catch(async () => {
        const [again] = (await network.registry.list()).leases;
        await fs.writeFile(
          `${network.endpoint.replace('-etcd-endpoints=file://', '')}/subnets/${again?.key}`,
          '{"PublicIP":"192.168.77.99","PublicIPv6":null}',
        );
      });
    expect(await daemon.exited).toBe(1);
    expect(daemon.output).toMatch(/^tweed: the lease of \S+ is lost: .*192\.168\.77\.99/m);
    expect((await host.run('ip', 'link', 'show', 'flannel0')).status).not.toBe(0);
  });
});
