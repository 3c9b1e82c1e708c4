import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '../../../src/base/exec.js';
import { inside } from '../../../src/lab/namespace.js';
import { type Peer, peerContender } from './peer.js';

const PORT = 51_820;

async function makeKey(folder: string, number: number): Promise<void> {
  const { stdout: secret } = await exec(['wg', 'genkey']);
  const { stdout: open } = await exec(['wg', 'pubkey'], { input: secret });
  const file = join(folder, `key${number}`);
  await writeFile(file, secret);
  await chmod(file, 0o600);
  await writeFile(`${file}.pub`, open);
}

const peer: Peer = {
  id: 'wireguard-go',
  title: 'wireguard-go',
  description: 'WireGuard in user space, one peer, its default MTU',
  encrypted: true,
  mtu: 1420,
  packages: ['wireguard-go', 'wireguard-tools'],
  programs: [
    ['wireguard-go', '--version'],
    ['wg', '--version'],
  ],
  // its control socket is named after the device and lives in a folder that all namespaces share
  device: (end) => `benchwg${end.number}`,
  prepare: async (folder) => {
    await Promise.all([makeKey(folder, 1), makeKey(folder, 2)]);
  },
  command: (end) => ['wireguard-go', '--foreground', `benchwg${end.number}`],
  async configure(end, other, folder) {
    const { stdout: key } = await exec(['cat', join(folder, `key${other.number}.pub`)]);
    const argv = ['wg', 'set', `benchwg${end.number}`, 'listen-port', String(PORT)];
    argv.push('private-key', join(folder, `key${end.number}`), 'peer', key.trim());
    argv.push('allowed-ips', '0.0.0.0/0', 'endpoint', `${other.address}:${PORT}`);
    await exec(inside(end.host, argv));
  },
};

export const wireguardGo = peerContender(peer);
