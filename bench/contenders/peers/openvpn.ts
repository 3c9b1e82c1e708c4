import { type Peer, peerContender, tunnelAddress } from './peer.js';

const DEVICE = 'ovpn0';
const MTU = 1464;
const BUFFER = String(7 << 20);

const peer: Peer = {
  id: 'openvpn',
  title: 'OpenVPN, no crypto',
  description: 'point to point over UDP, neither encrypted nor signed, large buffers, --fast-io',
  encrypted: false,
  mtu: MTU,
  packages: ['openvpn'],
  programs: [['openvpn', '--version']],
  device: () => DEVICE,
  configuresDevice: true,
  command: (end, other) => [
    ...['openvpn', '--dev', DEVICE, '--dev-type', 'tun', '--proto', 'udp4'],
    ...['--local', end.address, '--remote', other.address, '--port', '1194'],
    ...['--ifconfig', tunnelAddress(end), tunnelAddress(other)],
    ...['--tun-mtu', String(MTU), '--mssfix', '0', '--txqueuelen', '1000'],
    ...['--sndbuf', BUFFER, '--rcvbuf', BUFFER, '--fast-io', '--verb', '1'],
  ],
};

export const openvpn = peerContender(peer);
