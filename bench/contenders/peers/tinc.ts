import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '../../../src/base/exec.js';
import { type Peer, peerContender } from './peer.js';

const DEVICE = 'tinc0';
const MTU = 1440;

const peer: Peer = {
  id: 'tinc',
  title: 'tinc, null cipher',
  description: 'tinc 1.0, router mode, data neither encrypted nor signed (Cipher = none, Digest = none)',
  encrypted: false,
  mtu: MTU,
  packages: ['tinc'],
  programs: [['tincd', '--version']],
  device: () => DEVICE,
  async prepare(folder, pair) {
    for (const { number, address, subnet } of pair.ends) {
      const home = join(folder, `tinc${number}`);
      await mkdir(join(home, 'hosts'), { recursive: true });
      const connect = number === 2 ? 'ConnectTo = end1\n' : '';
      const main = `Name = end${number}\nMode = router\nInterface = ${DEVICE}\nAddressFamily = ipv4\nUDPRcvBuf = 7340032\nUDPSndBuf = 7340032\n`;
      await writeFile(join(home, 'tinc.conf'), main + connect);
      const host = `Address = ${address}\nSubnet = ${subnet}\nCipher = none\nDigest = none\nCompression = 0\n`;
      await writeFile(join(home, 'hosts', `end${number}`), host);
      await exec(['tincd', '--config', home, '--generate-keys=2048'], { input: '\n\n' });
    }
    await copyFile(join(folder, 'tinc1/hosts/end1'), join(folder, 'tinc2/hosts/end1'));
    await copyFile(join(folder, 'tinc2/hosts/end2'), join(folder, 'tinc1/hosts/end2'));
  },
  command: (end, _other, folder) => {
    const pid = join(folder, `tinc${end.number}.pid`);
    return ['tincd', '--config', join(folder, `tinc${end.number}`), '--no-detach', `--pidfile=${pid}`];
  },
};

export const tinc = peerContender(peer);
