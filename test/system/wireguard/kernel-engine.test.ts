/**
 * The engine `kernel` with the real `ip` and `wg`. Few machines that run these tests have WireGuard in their kernel, so a
 * device of wireguard-go stands for the kernel's; test/kernels/wireguard.test.ts has the kernel's own.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { kernelThrough } from '../../../src/backend/kernel/kernel.js';
import { KernelEngine } from '../../../src/backend/wireguard/kernel-engine.js';
import type { WireguardPeer } from '../../../src/backend/wireguard/peers.js';
import { exec } from '../../../src/base/exec.js';
import { parseIpv4, parsePrefix } from '../../../src/base/ipv4.js';
import type { Run } from '../../../src/routes/ip.js';
import { formatKey, PrivateKey } from '../../../src/wireguard/keys.js';
import { seeded } from '../../support/wireguard/host.js';
import { Namespace } from '../datapath/support/namespace.js';
import { until } from '../datapath/support/until.js';

const DEVICE = `twgk${process.pid % 10_000}`;
const SOCKET = `/var/run/wireguard/${DEVICE}.sock`;
const PORT = 51_820;
const presharedKey = new Uint8Array(32).fill(7);
const own = new PrivateKey(seeded('own')(32));

let namespace: Namespace;
let device: ChildProcess | undefined;

beforeEach(() => {
  namespace = new Namespace();
});

afterEach(async () => {
  await end();
  namespace.close();
});

async function end(): Promise<void> {
  if (device !== undefined && device.exitCode === null && device.signalCode === null) {
    const ended = once(device, 'exit');
    device.kill('SIGTERM');
    await ended;
  }
  device = undefined;
  rmSync(SOCKET, { force: true });
}

const run: Run = async (argv, options) => {
  if (argv.join(' ') !== `ip link add ${DEVICE} type wireguard`) return namespace.enter(() => exec(argv, options));
  await end();
  device = namespace.spawn('wireguard-go', ['-f', DEVICE], { stdio: 'ignore' });
  await until('wireguard-go to listen', () => existsSync(SOCKET));
  return { status: 0, stdout: '', stderr: '' };
};

function peer(n: number): WireguardPeer {
  const { publicKey } = new PrivateKey(seeded(`peer ${n}`)(32));
  const [publicIp = 0, subnet = null] = [parseIpv4(`192.0.2.${n}`), parsePrefix(`10.5.${n}.0/24`)] as const;
  const way = { publicIp: publicIp ?? 0, publicIpv6: null, address: publicIp ?? 0, port: PORT };
  return { subnet, subnetV6: null, ...way, publicKey, name: formatKey(publicKey) };
}

/** Of each peer: preshared key, endpoint, networks, keepalive. */
async function shown(): Promise<Record<string, string[]>> {
  const [, ...peers] = (await exec(['wg', 'show', DEVICE, 'dump'])).stdout.trim().split('\n');
  return Object.fromEntries(
    peers.map((line) => {
      const [key = '', shared = '', endpoint = '', networks = '', , , , keepalive = ''] = line.split('\t');
      return [key, [shared, endpoint, networks, keepalive]];
    }),
  );
}

const told = (n: number, endpoint = `192.0.2.${n}:${PORT}`) => ({
  [peer(n).name]: [formatKey(presharedKey), endpoint, `10.5.${n}.0/24`, '25'],
});

it('makes a device, tells wg of peers that come, go, roam and are lost, and takes the device away', async () => {
  const network = parsePrefix('10.5.0.0/16');
  const engine = new KernelEngine({
    context: {
      device: DEVICE,
      networks: { ipv4: network, ipv6: null },
      mtu: 1420,
      port: PORT,
      presharedKey,
      keepalive: 25,
    },
    privateKey: own,
    txQueueLength: 1000,
    kernel: kernelThrough(run, () => ''),
    run,
  });
  const set = async (...numbers: number[]) =>
    (await engine.setPeers({ peers: numbers.map(peer), complete: true })).mended;
  await engine.start({ ipv4: parsePrefix('10.5.1.0/24'), ipv6: null }, { peers: [peer(2), peer(3)], complete: true });
  const first = (await exec(['wg', 'show', DEVICE, 'dump'])).stdout.split('\n')[0];
  expect(first).toBe([formatKey(own.secret.bytes), formatKey(own.publicKey), PORT, 'off'].join('\t'));
  expect(await shown()).toEqual({ ...told(2), ...told(3) });
  expect(await set(2, 3)).toEqual([]);

  await exec(['wg', 'set', DEVICE, 'peer', peer(2).name, 'endpoint', '198.51.100.7:9']);
  expect(await set(2, 4)).toEqual([]);
  expect(await shown()).toEqual({ ...told(2, '198.51.100.7:9'), ...told(4) });

  await exec(['wg', 'set', DEVICE, 'peer', peer(4).name, 'remove']);
  expect(await set(2, 4)).toEqual([`gave ${DEVICE} its 2 peers`]);
  expect(await shown()).toEqual({ ...told(2, '198.51.100.7:9'), ...told(4) });

  await namespace.ip(`link del ${DEVICE}`);
  expect(await set(2, 4)).toContain(`made ${DEVICE} anew`);
  expect(await shown()).toEqual({ ...told(2), ...told(4) });
  expect((await namespace.run('ip', 'route', 'show', 'dev', DEVICE)).stdout).toContain('10.5.0.0/16');

  await engine.stop();
  await expect(namespace.run('ip', 'link', 'show', DEVICE)).rejects.toThrow(/does not exist/);
});
