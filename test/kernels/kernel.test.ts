/** What this kernel is, has, and takes, apart from any overlay. */
import { describe, expect, it } from 'vitest';
import { maxSegments } from '../../src/backend/udp/kernel-quirks.js';
import { exec } from '../../src/base/exec.js';
import { kernelRelease } from '../../src/linux/kernel-quirks.js';
import { address } from '../system/datapath/support/host.js';
import { Namespace } from '../system/datapath/support/namespace.js';
import { RefusedError, Udp } from '../system/datapath/support/sockets.js';
import { testedKernel } from './kernel.js';

const { expected } = testedKernel();
const EINVAL = 22;

it('is the stable release that its package says', () => {
  expect(kernelRelease()).toBe(process.env.TWEED_KERNEL_VERSION);
});

const modules = [
  'tun',
  'vxlan',
  'veth',
  'bridge',
  'br_netfilter',
  'nf_tables',
  'nft_compat',
  'ip_tables',
  'iptable_nat',
];
describe('has the module', () => {
  it.each([...modules, 'wireguard', 'fou', 'ipip', 'sch_netem', 'sch_tbf'])('%s', async (name) => {
    await exec(['modprobe', name]);
  });
});

it('makes a WireGuard device', async () => {
  const namespace = new Namespace();
  await namespace.ip('link add wg0 type wireguard', 'link set wg0 mtu 1392 up');
  const { stdout } = await namespace.run('ip', '-json', 'link', 'show', 'wg0');
  expect(JSON.parse(stdout)[0]).toMatchObject({ ifname: 'wg0', mtu: 1392 });
  namespace.close();
});

it('takes segmented sends of the length that it is known for, and tweed sends none that is longer', async () => {
  const namespace = new Namespace();
  await namespace.ip('link set lo up');
  const [from, to] = [new Udp(namespace), new Udp(namespace)];
  const size = 400;
  const takes = (count: number): boolean => {
    try {
      from.sendSegmented(Buffer.alloc(count * size), size, address('127.0.0.1'), to.port);
      return true;
    } catch (error) {
      if (error instanceof RefusedError && error.errno === EINVAL) return false;
      throw error;
    }
  };
  let most = 1;
  while (most < 150 && takes(most + 1)) most++;
  for (const socket of [from, to]) socket.close();
  namespace.close();
  expect(most).toBe(expected.segmentsPerSend);
  expect(maxSegments()).toBeLessThanOrEqual(most);
});
