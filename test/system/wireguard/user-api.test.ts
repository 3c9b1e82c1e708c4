import { mkdirSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { exec } from '../../../src/base/exec.js';
import { formatKey } from '../../../src/wireguard/keys.js';
import { formatAnswer, RequestReader } from '../../../src/wireguard/user-api.js';
import { innerPacket } from '../../support/wireguard/host.js';
import { Network, pair } from '../../support/wireguard/network.js';

const DEVICE = `twgapi${process.pid % 10_000}`;
const SOCKET = `/var/run/wireguard/${DEVICE}.sock`;

let server: Server | undefined;

afterEach(() => {
  server?.close();
  rmSync(SOCKET, { force: true });
});

it('wg shows our device and is refused to change it', async () => {
  const network = new Network();
  const presharedKey = new Uint8Array(32).fill(7);
  const { a, b, ab } = pair(network, { presharedKey, keepalive: 25_000 });
  a.transmit(ab, innerPacket(1));
  network.run(1_000);
  mkdirSync('/var/run/wireguard', { recursive: true, mode: 0o700 });
  server = createServer((socket) => {
    const reader = new RequestReader();
    socket.setEncoding('utf8');
    socket.on('data', (text) => {
      for (const request of reader.push(String(text))) {
        const peers = [...a.device.peers()].map((peer) => ({ ...peer, allowedIps: ['10.5.2.0/24'] }));
        socket.write(formatAnswer(request, { privateKey: a.device.privateKey, listenPort: 51820, peers }));
      }
    });
    socket.on('error', () => {});
  });
  await new Promise<void>((resolve) => server?.listen(SOCKET, resolve));

  const { stdout } = await exec(['wg', 'show', DEVICE, 'dump']);
  const [device, peer] = stdout
    .trim()
    .split('\n')
    .map((line) => line.split('\t'));
  expect(device).toEqual([formatKey(a.device.privateKey.bytes), formatKey(a.device.publicKey), '51820', 'off']);
  const [status] = [...a.device.peers()];
  expect(peer).toEqual([
    formatKey(b.device.publicKey),
    formatKey(presharedKey),
    '192.0.2.2:51820',
    '10.5.2.0/24',
    `${Math.floor(status.lastHandshake / 1000)}`,
    `${status.receivedBytes}`,
    `${status.sentBytes}`,
    '25',
  ]);
  expect((await exec(['wg', 'show', 'interfaces'])).stdout.split(/\s/)).toContain(DEVICE);
  expect((await exec(['wg', 'show', DEVICE])).stdout).toContain('private key: (hidden)');
  await expect(exec(['wg', 'set', DEVICE, 'listen-port', '1'])).rejects.toThrow(/not permitted/i);
});
