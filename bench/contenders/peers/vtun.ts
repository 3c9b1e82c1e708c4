import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Peer, peerContender } from './peer.js';

const DEVICE = 'vtun0';
const MTU = 1464;

const peer: Peer = {
  id: 'vtun',
  title: 'vtun',
  description: 'TUN over UDP, neither encrypted nor compressed',
  encrypted: false,
  mtu: MTU,
  packages: ['vtun'],
  programs: [['vtund', '-h']],
  device: () => DEVICE,
  async prepare(folder) {
    const config = [
      'options { port 5000; timeout 60; syslog daemon; }',
      `bench { passwd bench; type tun; device ${DEVICE}; proto udp; compress no; encrypt no; keepalive no; stat no; }`,
    ];
    await writeFile(join(folder, 'vtund.conf'), `${config.join('\n')}\n`);
  },
  command: (end, other, folder) => {
    const common = ['vtund', '-n', '-f', join(folder, 'vtund.conf'), '-P', '5000'];
    return end.number === 1 ? [...common, '-s'] : [...common, '-p', 'bench', other.address];
  },
};

export const vtun = peerContender(peer);
