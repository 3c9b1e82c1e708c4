import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '../../../src/base/exec.js';
import { otherEnd } from '../contender.js';
import { type Peer, peerContender, tunnelAddress } from './peer.js';

const DEVICE = 'nebula0';
const MTU = 1440;
const PORT = 4242;

const peer: Peer = {
  id: 'nebula',
  title: 'nebula',
  description: 'AES-GCM, one routine, containers reached by unsafe_routes, large buffers',
  encrypted: true,
  mtu: MTU,
  packages: ['nebula'],
  programs: [
    ['nebula', '-version'],
    ['nebula-cert', '-version'],
  ],
  device: () => DEVICE,
  configuresDevice: true,
  async prepare(folder, pair) {
    const file = (name: string) => join(folder, name);
    await exec(['nebula-cert', 'ca', '-name', 'bench', '-out-crt', file('ca.crt'), '-out-key', file('ca.key')]);
    for (const end of pair.ends) {
      const other = otherEnd(pair, end);
      const name = `end${end.number}`;
      const sign = ['nebula-cert', 'sign', '-ca-crt', file('ca.crt'), '-ca-key', file('ca.key'), '-name', name];
      sign.push('-ip', `${tunnelAddress(end)}/24`, '-subnets', end.subnet);
      await exec([...sign, '-out-crt', file(`${name}.crt`), '-out-key', file(`${name}.key`)]);
      // JSON is YAML
      const config = {
        pki: { ca: file('ca.crt'), cert: file(`${name}.crt`), key: file(`${name}.key`) },
        static_host_map: { [tunnelAddress(other)]: [`${other.address}:${PORT}`] },
        lighthouse: { am_lighthouse: false },
        listen: { host: end.address, port: PORT, read_buffer: 7 << 20, write_buffer: 7 << 20 },
        cipher: 'aes',
        tun: {
          dev: DEVICE,
          mtu: MTU,
          tx_queue: 1000,
          unsafe_routes: [{ route: other.subnet, via: tunnelAddress(other), mtu: MTU }],
        },
        logging: { level: 'error' },
        firewall: {
          outbound: [{ port: 'any', proto: 'any', host: 'any' }],
          inbound: [{ port: 'any', proto: 'any', host: 'any' }],
        },
      };
      await writeFile(file(`${name}.yml`), JSON.stringify(config));
    }
  },
  command: (end, _other, folder) => ['nebula', '-config', join(folder, `end${end.number}.yml`)],
};

export const nebula = peerContender(peer);
