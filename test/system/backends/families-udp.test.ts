import { isIPv6 } from 'node:net';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { containerAddresses } from '../../../src/lab/containers.js';
import { daemonStatus, readSubnet } from '../../../src/lab/daemon.js';
import { patient } from '../../../src/lab/patience.js';
import { waitFor } from '../../../src/lab/wait.js';
import { useLab } from '../support/lab.js';
import { daemonArgs, testFamilies } from './family-labs.js';

const program = fileURLToPath(new URL('../../../dist/cli/tweed.cjs', import.meta.url));

testFamilies('udp');

describe('a host whose addresses come and go, in a lab of both families', () => {
  // the registry is reached by no address
  const lab = useLab({
    ...{ ipFamilies: 'dual', underlayFamily: 'dual', registry: 'directory', hosts: 2, containers: 1 },
    daemonArgs,
  });

  async function reached(): Promise<readonly boolean[]> {
    const addresses = containerAddresses(await readSubnet(lab().files, 'host2'), 1);
    const asked = addresses.map((address) =>
      lab()
        .probe('host1/c1')
        .ask('ping', { address, timeout: patient(2_000) }),
    );
    return (await Promise.all(asked)).map(({ received }) => received);
  }

  /** By which addresses the second host knows the first. */
  async function known(): Promise<readonly string[]> {
    const [peer] = (await daemonStatus(lab().files, 'host2'))?.backend?.peers ?? [];
    return [...new Set([peer?.publicIp, peer?.publicIpv6])].filter((address) => typeof address === 'string');
  }

  it.each([
    ['IPv4', 0],
    ['IPv6', 1],
  ] as const)('both families go on by the other while its %s address is gone', async (_family, index) => {
    const { addresses } = lab().host('host1');
    const address = addresses[index] ?? '';
    const [length, ...words] = isIPv6(address) ? ['64', 'nodad'] : ['20'];
    await waitFor('the other host to know both', async () => (await known()).length === 2);
    await lab().exec('host1', ['ip', 'address', 'del', `${address}/${length}`, 'dev', 'eth0']);
    await waitFor('the other host to know', async () => (await known()).join() === addresses[1 - index]);
    await waitFor('both families to pass', async () => (await reached()).every(Boolean));
    await lab().exec('host1', ['ip', 'address', 'add', `${address}/${length}`, 'dev', 'eth0', ...words]);
    await waitFor('the other host to know again', async () => (await known()).length === 2);
    await waitFor('both families to pass again', async () => (await reached()).every(Boolean));
    expect((await daemonStatus(lab().files, 'host2'))?.backend?.refused).toEqual([]);
  });

  // the last one: the host does not get its addresses back
  it('IPv4 goes on where IPv6 is disabled in the kernel, and doctor names the switch', async () => {
    const [ipv4] = lab().host('host1').addresses;
    await lab().exec('host1', ['sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6']);
    await waitFor('the other host to know', async () => (await known()).join() === ipv4);
    await waitFor('IPv4 to pass', async () => (await reached())[0] === true);
    const argv = [process.execPath, program, 'doctor', '--run-dir', lab().files.runFolder('host1')];
    const { stdout } = await lab().exec('host1', argv, { tolerate: true });
    expect(stdout).toMatch(/FAIL +ipv6-kernel: IPv6 is disabled \(net\.ipv6\.conf\.all, eth0\.disable_ipv6\)/);
    expect(stdout).toMatch(/ok +ipv6-address: eth0 has no IPv6 address and needs none/);
  });
});
