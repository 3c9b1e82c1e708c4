/** A host whose interface becomes too small for IPv6 in the overlay, and large enough again. */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseEnvFile } from '../../../src/base/env-file.js';
import { daemonStatus } from '../../../src/lab/daemon.js';
import { formatMatrix } from '../../../src/lab/matrix.js';
import { waitFor } from '../../../src/lab/wait.js';
import { useLab } from '../support/lab.js';
import { daemonArgs } from './family-labs.js';

const program = fileURLToPath(new URL('../../../dist/cli/tweed.cjs', import.meta.url));

// not host-gw: where its packets are too small for IPv6, the interface has none either
describe.each([
  ['udp', {}],
  ['vxlan', {}],
  ['wireguard', {}],
  ['wireguard', { Mode: 'auto' }],
] as const)('a lab of both families with %s %j', (backend, options) => {
  const lab = useLab({
    ...{ ipFamilies: 'dual', underlayFamily: 'dual', registry: 'directory', hosts: 2, containers: 1, backend },
    networkConfig: { Backend: options },
    daemonArgs,
  });
  const file = () => readFile(lab().files.subnetFile('host1'), 'utf8');
  const told = async () => parseEnvFile(await file()).get('FLANNEL_IPV6_SUBNET');
  const setMtu = (mtu: number) => lab().exec('host1', ['ip', 'link', 'set', 'eth0', 'mtu', String(mtu)]);
  const status = () => daemonStatus(lab().files, 'host1');
  const tweed = async (...words: string[]) => {
    const { stdout } = await lab().exec('host1', [process.execPath, program, ...words], { tolerate: true });
    return stdout;
  };
  const dockerOptions = () => tweed('docker-opts', '-f', lab().files.subnetFile('host1'), '-d', '-', '-c');

  it('tells containers of no IPv6 while that is not carried, and of the same subnet afterwards', async () => {
    const before = await told();
    expect(before).toMatch(/^fd00:100:96:/);
    expect(await dockerOptions()).toContain('--ipv6');

    await setMtu(1300);
    await waitFor('the subnet file to be without IPv6', async () => (await told()) === undefined);
    expect(await file()).not.toContain('FLANNEL_IPV6');
    expect(await dockerOptions()).toMatch(/^DOCKER_OPTS=" --bip=\S+ --ip-masq=false --mtu=12\d\d"\n$/);
    expect(await status()).toMatchObject({
      ready: true,
      warnings: [expect.stringMatching(/^fd00:100:96::\/48 is not carried, since packets of 12\d\d bytes are left/)],
    });
    const doctor = await tweed('doctor', '--run-dir', lab().files.runFolder('host1'));
    expect(doctor).toMatch(/warn +daemon-warnings: fd00:100:96::\/48 is not carried/);

    await setMtu(1500);
    await waitFor('the subnet file to have IPv6 again', async () => (await told()) === before);
    expect((await status())?.warnings).toEqual([]);
    await lab().waitForPeers();
    const result = await lab().test({ transferBytes: 100_000 });
    expect(result.ok, formatMatrix(result)).toBe(true);
  });

  it('has both its subnets again after a restart meanwhile, though nothing but the subnet file remembers them', async () => {
    const before = await told();
    const { subnet = '', subnetV6 = '' } = (await status())?.lease ?? {};
    await setMtu(1300);
    await waitFor('the subnet file to be without IPv6', async () => (await told()) === undefined);
    await lab().stopDaemon('host1');
    const leases = join(lab().files.directoryRegistry, 'subnets');
    const own = (await readdir(leases)).filter((name) => name.startsWith(subnet.replace('/', '-')));
    const states = (await readdir(lab().files.runFolder('host1'))).filter((name) => name.endsWith('.cache.json'));
    expect([own.length > 0, states.length]).toEqual([true, 1]);
    for (const name of own) await rm(join(leases, name));
    for (const name of states) await rm(join(lab().files.runFolder('host1'), name));
    await lab().startDaemon('host1');
    expect(await told()).toBeUndefined();
    expect((await status())?.lease).toMatchObject({ subnet, subnetV6 });
    await setMtu(1500);
    await waitFor('the subnet file to have IPv6 again', async () => (await told()) === before);
  });
});
