import { describe, expect, it } from 'vitest';
import type { DockerLab } from '../../../../src/lab/docker/lab.js';
import { traceableInDocker } from '../../../../src/lab/docker/trace.js';

/** Two hosts, of which only the second has a daemon that answers. */
const lab = {
  hosts: ['host1', 'host2'],
  async *layout() {
    for (const [index, host] of ['host1', 'host2'].entries()) {
      const gateway = { address: 0x64600101 + index * 256, length: 24 };
      yield { host, subnet: { gateways: [gateway], mtu: 1472 }, containers: [{ name: 'c1', number: 1 }] };
    }
  },
  exec: async (host: string) => {
    const local = host === 'host1' ? '198.18.85.11' : '198.18.85.12';
    const links = [
      { ifname: 'br0', addr_info: [{ local: host === 'host1' ? '100.96.1.1' : '100.96.2.1' }] },
      { ifname: 'eth1', addr_info: [{ local: '172.17.0.2' }] },
      { ifname: 'eth0', addr_info: [{ local }] },
    ];
    return { status: 0, stdout: JSON.stringify(links), stderr: '' };
  },
  status: async (host: string) => (host === 'host1' ? null : { underlay: { address: '198.18.85.12' } }),
} as unknown as DockerLab;

describe('the compose lab, as a trace needs it', () => {
  it('has the addresses of hosts and containers, first that on the underlay where the daemon tells it', async () => {
    expect(Object.fromEntries(await traceableInDocker(lab).addressBook())).toEqual({
      host1: ['172.17.0.2', '198.18.85.11', '100.96.1.1'],
      'host1/c1': ['100.96.1.2'],
      host2: ['198.18.85.12', '172.17.0.2', '100.96.2.1'],
      'host2/c1': ['100.96.2.2'],
    });
  });

  it('has hosts and their containers as places, nothing between, and names commands as they are typed there', () => {
    const subject = traceableInDocker(lab);
    expect(subject.between).toEqual([]);
    expect(subject.networkOf('host2/c1')).toBe('host2/c1');
    for (const elsewhere of ['etcd', 'internet', 'host3/c1']) {
      expect(() => subject.networkOf(elsewhere)).toThrow(/begins and ends in host1, host2, or in host1\/c1$/);
    }
    expect(subject.typed('exec', 'host1', '--', 'ip')).toBe('npm run lab:docker -- exec host1 -- ip');
  });
});
