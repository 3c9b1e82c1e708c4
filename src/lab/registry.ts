import { makeDirectory } from '../base/atomic-file.js';
import { cleanEnvironment } from '../base/exec.js';
import { LabError } from './errors.js';
import { namespaceOf } from './names.js';
import { spawnInside } from './namespace.js';
import { etcdAddress, etcdAddressV6, type LabOptions, networkConfigOf, ofFamilies } from './options.js';
import { patient } from './patience.js';
import { Probe, probeCommand } from './probe/client.js';
import { livePid, startDetached } from './process.js';
import type { LabFiles } from './state.js';

/** Where the daemons find the registry. */
export function registryEndpoint(options: LabOptions, files: LabFiles): string {
  return options.registry === 'etcd' ? (clientUrls(options)[0] ?? '') : `file://${files.directoryRegistry}`;
}

/** Where etcd listens on the underlay. */
function clientUrls({ underlayFamily }: LabOptions): readonly string[] {
  return ofFamilies(underlayFamily, `http://${etcdAddress}:2379`, `http://[${etcdAddressV6}]:2379`);
}

/** Starts etcd in its own namespace unless it is running. Its data survives a stop. */
export async function startEtcd(options: LabOptions, files: LabFiles): Promise<void> {
  if ((await livePid(files.record('etcd'))) !== null) return;
  const urls = clientUrls(options).join(',');
  const peerUrl = 'http://127.0.0.1:2380';
  const argv = ['etcd', '--name', 'lab', '--data-dir', files.etcdData];
  argv.push('--listen-client-urls', `${urls},http://127.0.0.1:2379`, '--advertise-client-urls', urls);
  argv.push('--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl);
  argv.push('--initial-cluster', `lab=${peerUrl}`);
  const namespace = namespaceOf(options.name, { kind: 'etcd' });
  await startDetached(namespace, argv, files.log('etcd'), files.record('etcd'));
}

/** Writes the network's configuration, waiting for an etcd that is still starting. */
export async function putNetworkConfig(options: LabOptions, files: LabFiles): Promise<void> {
  if (options.registry === 'directory') await makeDirectory(files.directoryRegistry);
  const child = spawnInside(namespaceOf(options.name, { kind: 'etcd' }), probeCommand(), {
    stdio: 'pipe',
    env: cleanEnvironment(),
  });
  const probe = new Probe('etcd', child);
  try {
    await probe.ask('putNetworkConfig', {
      endpoint: registryEndpoint(options, files),
      config: networkConfigOf(options),
      timeout: patient(15_000),
    });
  } catch (error) {
    throw new LabError('LAB_REGISTRY', `the registry took no network configuration; read ${files.log('etcd')}`, {
      cause: error,
    });
  } finally {
    await probe.close();
  }
}
