// A lab's daemon, started as flanneld is. On the host named by WIREGUARD_GO_HOST it is a stand-in for flanneld with the
// wireguard backend, whose device is wireguard-go's and is set up by `wg`, as an operator would by what the leases say;
// everywhere else it is tweed itself, with the engine that WIREGUARD_ENGINE names, if it does.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { formatAddress, formatAnyPrefix, formatEndpoint, parseAddress } from '../../../../dist/base/address.js';
import { exec } from '../../../../dist/base/exec.js';
import { silentLogger } from '../../../../dist/base/log.js';
import { halvesOf } from '../../../../dist/subnet/lease.js';
import { LeaseManager } from '../../../../dist/subnet/leases/lease-manager.js';
import { openRegistry } from '../../../../dist/subnet/open-registry.js';
import { writeSubnetEnv } from '../../../../dist/subnet/subnet-env.js';

const argument = (name) => process.argv[process.argv.indexOf(name) + 1];
const subnetFile = argument('--subnet-file');
const folder = path.dirname(subnetFile);
const MTU = 1420;

if (path.basename(folder) === process.env.WIREGUARD_GO_HOST) await beWireguardGo();
else {
  const given = process.argv.slice(2);
  const own = [
    '--run-dir',
    folder,
    '--wireguard-key-file',
    `${folder}/wgkey`,
    '--wireguard-socket-dir',
    `${folder}/wg`,
    ...(process.env.WIREGUARD_ENGINE === undefined ? [] : ['--wireguard-engine', process.env.WIREGUARD_ENGINE]),
  ];
  const program = fileURLToPath(new URL('../../../../dist/cli/tweed.cjs', import.meta.url)); // it starts itself again
  process.argv = [process.argv[0], program, 'run', ...own, ...given];
  await import(program);
}

async function beWireguardGo() {
  const device = `wgo${process.pid}`;
  const go = spawn('wireguard-go', ['-f', device], { stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => go.kill('SIGTERM'));
  go.once('exit', () => process.exit(0));
  while (!existsSync(`/var/run/wireguard/${device}.sock`)) await delay(20);

  const [publicIp, publicIpv6] = await Promise.all([ownAddress('-4', 0), ownAddress('-6', null)]);
  const privateKey = (await exec(['wg', 'genkey'])).stdout.trim();
  const PublicKey = (await exec(['wg', 'pubkey'], { input: privateKey })).stdout.trim();
  const log = silentLogger();
  const registry = await openRegistry({ endpoints: [argument('--etcd-endpoints')] }, log);
  const leases = new LeaseManager({ registry, log, host: { publicIp, publicIpv6 } });
  const config = await leases.waitForConfig();
  const { listenport: port = 51820, psk = '', mode = 'ipv4' } = config.backend.options;
  const lease = await leases.acquire(config, {
    publicIp,
    publicIpv6,
    backendType: 'wireguard',
    backendData: { PublicKey, Port: port },
    // as flannel, which names the port of a device that there is not
    ...(config.ipv6 !== null && { backendV6Data: { PublicKey, Port: 51821 } }),
  });
  const configure = async () => {
    const lines = ['[Interface]', `PrivateKey = ${privateKey}`, `ListenPort = ${port}`];
    for (const peer of leases.peers.leases) {
      const { publicIp, publicIpv6, backendData } = peer.attributes;
      const endpoint = formatEndpoint(mode === 'ipv6' ? publicIpv6 : publicIp, backendData.Port);
      lines.push('[Peer]', `PublicKey = ${backendData.PublicKey}`, ...(psk === '' ? [] : [`PresharedKey = ${psk}`]));
      lines.push(`AllowedIPs = ${halvesOf(peer).map(formatAnyPrefix).join(', ')}`, `Endpoint = ${endpoint}`);
    }
    // a pipe of the shell, since wg takes none of those that Node makes
    const argv = ['sh', '-c', `cat | wg syncconf ${device} /dev/stdin`];
    await exec(argv, { input: `${lines.join('\n')}\n` });
  };
  // one after the other: of two at once the older could come last, and take peers away
  let configured = Promise.resolve();
  const again = () => {
    configured = configured.then(configure);
  };
  leases.on('peers', again);
  leases.follow();
  again();
  await configured;
  await exec(['ip', 'link', 'set', device, 'mtu', String(MTU), 'up']);
  const halves = { ipv4: null, ipv6: null };
  for (const [family, subnet] of [
    ['ipv4', lease.subnet],
    ['ipv6', lease.subnetV6],
  ]) {
    if (subnet === null) continue;
    const { network } = config[family];
    halves[family] = { network, subnet };
    await exec(['ip', 'address', 'add', formatAddress(subnet.address), 'dev', device]);
    await exec(['ip', 'route', 'add', formatAnyPrefix(network), 'dev', device]);
  }
  await writeSubnetEnv(subnetFile, { ...halves, mtu: MTU, ipMasq: true });
}

/** Of eth0; `none` where it has none of the family. */
async function ownAddress(family, none) {
  const { stdout } = await exec(['ip', '-json', family, 'address', 'show', 'dev', 'eth0', 'scope', 'global']);
  const [{ addr_info: [own] = [] } = {}] = JSON.parse(stdout);
  return own === undefined ? none : parseAddress(own.local);
}
