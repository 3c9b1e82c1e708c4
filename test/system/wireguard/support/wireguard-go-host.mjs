// A lab's daemon, started as flanneld is. On the host named by WIREGUARD_GO_HOST it is a stand-in for flanneld with the
// wireguard backend, whose device is wireguard-go's and is set up by `wg`, as an operator would by what the leases say;
// everywhere else it is tweed itself.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { exec } from '../../../../dist/base/exec.js';
import { formatIpv4, formatPrefix, parseIpv4 } from '../../../../dist/base/ipv4.js';
import { silentLogger } from '../../../../dist/base/log.js';
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
  ];
  const program = fileURLToPath(new URL('../../../../dist/cli/tweed.js', import.meta.url)); // it starts itself again
  process.argv = [process.argv[0], program, 'run', ...own, ...given];
  await import(program);
}

async function beWireguardGo() {
  const device = `wgo${process.pid}`;
  const go = spawn('wireguard-go', ['-f', device], { stdio: 'inherit' });
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => go.kill('SIGTERM'));
  go.once('exit', () => process.exit(0));
  while (!existsSync(`/var/run/wireguard/${device}.sock`)) await delay(20);

  const [{ addr_info: addresses }] = JSON.parse(
    (await exec(['ip', '-json', '-4', 'address', 'show', 'dev', 'eth0'])).stdout,
  );
  const publicIp = parseIpv4(addresses[0].local);
  const privateKey = (await exec(['wg', 'genkey'])).stdout.trim();
  const PublicKey = (await exec(['wg', 'pubkey'], { input: privateKey })).stdout.trim();
  const log = silentLogger();
  const registry = await openRegistry({ endpoints: [argument('--etcd-endpoints')] }, log);
  const leases = new LeaseManager({ registry, log, publicIp });
  const config = await leases.waitForConfig();
  const { listenport: port = 51820, psk = '' } = config.backend.options;
  const lease = await leases.acquire(config, {
    publicIp,
    publicIpv6: null,
    backendType: 'wireguard',
    backendData: { PublicKey, Port: port },
  });
  const configure = async () => {
    const lines = ['[Interface]', `PrivateKey = ${privateKey}`, `ListenPort = ${port}`];
    for (const { subnet, attributes } of leases.peers.leases) {
      const { PublicKey: theirs, Port } = attributes.backendData;
      lines.push('[Peer]', `PublicKey = ${theirs}`, ...(psk === '' ? [] : [`PresharedKey = ${psk}`]));
      lines.push(`AllowedIPs = ${formatPrefix(subnet)}`, `Endpoint = ${formatIpv4(attributes.publicIp)}:${Port}`);
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
  await exec(['ip', 'address', 'add', `${formatIpv4(lease.subnet.address)}/32`, 'dev', device]);
  await exec(['ip', 'link', 'set', device, 'mtu', String(MTU), 'up']);
  await exec(['ip', 'route', 'add', formatPrefix(config.ipv4.network), 'dev', device]);
  const ipv4 = { network: config.ipv4.network, subnet: lease.subnet };
  await writeSubnetEnv(subnetFile, { ipv4, ipv6: null, mtu: MTU, ipMasq: true });
}
