import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '../../../src/base/exec.js';
import { otherEnd } from '../contender.js';
import { type Peer, peerContender } from './peer.js';

const DEVICE = 'fastd0';
const PORT = 10_000;
const MTU = 1464;

async function makeKey(): Promise<{ readonly secret: string; readonly open: string }> {
  const { stdout } = await exec(['fastd', '--generate-key', '--machine-readable']);
  const secret = stdout.trim();
  const { stdout: open } = await exec(['fastd', '--config', '-', '--show-key', '--machine-readable'], {
    input: `secret "${secret}";\n`,
  });
  return { secret, open: open.trim() };
}

const peer: Peer = {
  id: 'fastd',
  title: 'fastd, null cipher',
  description: 'method null, TUN mode',
  encrypted: false,
  mtu: MTU,
  packages: ['fastd'],
  programs: [['fastd', '--version']],
  device: () => DEVICE,
  async prepare(folder, pair) {
    const keys = [await makeKey(), await makeKey()];
    for (const end of pair.ends) {
      const other = otherEnd(pair, end);
      const lines = [
        'log level warn;',
        `interface "${DEVICE}";`,
        'mode tun;',
        'method "null";',
        `mtu ${MTU};`,
        `bind ${end.address}:${PORT};`,
        `secret "${keys[end.number - 1]?.secret}";`,
        `peer "other" { key "${keys[other.number - 1]?.open}"; remote ${other.address}:${PORT}; }`,
      ];
      await writeFile(join(folder, `fastd${end.number}.conf`), `${lines.join('\n')}\n`);
    }
  },
  command: (end, _other, folder) => ['fastd', '--config', join(folder, `fastd${end.number}.conf`)],
};

export const fastd = peerContender(peer);
