import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ExecError } from '../../../../src/base/exec.js';
import { silentLogger } from '../../../../src/base/log.js';
import { type StatusServer, startStatusServer } from '../../../../src/observe/status-server.js';
import { makeReport, type SecretSources } from '../../../../src/operator/report/report.js';
import { openRegistry } from '../../../../src/subnet/open-registry.js';
import { daemonStatus } from '../status.js';

const psk = Buffer.alloc(32, 0x1b).toString('base64');
const privateKey = Buffer.alloc(32, 0xe5).toString('base64');
const secrets = {
  psk,
  privateKey,
  privateKeyInHex: Buffer.from(privateKey, 'base64').toString('hex'),
  etcdPassword: 'etcd-Pa55wort',
  passwordInFile: 'in-the-file-7',
  foreignVariable: 'someone-elses-9',
  token: 'bearer-TOKEN-42',
  inUrl: 'url-secret-1',
};
/** What any program or file may say. */
const leaky = `line
${secrets.psk} ${secrets.privateKey} private_key=${secrets.privateKeyInHex}
dialing http://root:${secrets.inUrl}@10.0.0.1:2379 as root:${secrets.etcdPassword}, then ${secrets.passwordInFile}
authorization: Bearer ${secrets.token}
last line
`;

let directory: string;
let server: StatusServer;
let sources: SecretSources;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tweed-report-'));
  const endpoints = [`file://${directory}/registry`];
  await mkdir(join(directory, 'registry'));
  const registry = await openRegistry({ endpoints, prefix: '/net' }, silentLogger());
  await registry.setConfig(`{"Network":"100.96.0.0/16","Backend":{"Type":"wireguard","PSK":"${psk}"}}`, null);
  await registry.close();
  server = await startStatusServer(
    join(directory, 'run'),
    () => daemonStatus({ process: process.pid, warnings: [leaky] }),
    silentLogger(),
    [{ name: 'vmodule', value: leaky, from: 'default' }],
  );
  const environmentFile = '/etc/tweed.env';
  const keyFile = '/run/flannel/wgkey';
  sources = {
    version: '1.2.3',
    environmentFile,
    wireguardKeyFile: keyFile,
    environment: { FLANNELD_ETCD_PASSWORD: secrets.etcdPassword, PATH: '/usr/bin' },
    options: {
      registry: { endpoints, prefix: '/net' },
      underlay: { interfaces: ['lo'], patterns: [], canReach: '', publicIp: '', publicIpv6: '' },
      udp: udpOptions,
      runDirectory: join(directory, 'run'),
      subnetFile: join(directory, 'subnet.env'),
    },
    run: async (argv) => {
      if (argv[0] === 'nft') throw new ExecError(argv, null, 'nft is not installed; install it and try again');
      return { status: 0, stdout: `output of ${argv.join(' ')}\n${leaky}`, stderr: leaky };
    },
    readText: async (path) => {
      if (path === keyFile) return `${privateKey}\n`;
      if (path === environmentFile)
        return `FLANNELD_ETCD_PASSWORD=${secrets.passwordInFile}\nFLANNELD_IFACE=eth0\nOTHER="${secrets.foreignVariable}"\n`;
      return `content of ${path}\n${leaky}`;
    },
  };
});
afterAll(async () => {
  await server.close();
  await rm(directory, { recursive: true });
});

const udpOptions: SecretSources['options']['udp'] = {
  deviceName: 'flannel0',
  checkSenders: true,
  offloads: { tunTso: 'auto', tunUso: 'auto', udpGso: 'auto', udpGro: 'auto', udpBatch: 'auto' },
  forwarderThreads: 'auto',
  socketBuffer: 4096,
  txQueueLength: 1000,
  kernelPath: 'off',
  kernelPathMerge: true,
};

describe('a report', () => {
  it('has no secret in it, whatever its sources say', async () => {
    const { archive, parts } = await makeReport(sources, 'folder', 0);
    const text = gunzipSync(archive).toString();
    for (const [name, secret] of Object.entries(secrets)) {
      expect(text.includes(secret), name).toBe(false);
      for (const part of parts) expect(part.text.includes(secret), `${name} in ${part.file}`).toBe(false);
    }
  });

  it('has the rest of what they say', async () => {
    const { parts } = await makeReport(sources, 'folder', 0);
    const text = (file: string) => parts.find((part) => part.file === file)?.text ?? '';
    expect(parts.filter(({ remark }) => remark !== '')).toEqual([]);
    expect(text('versions.txt')).toContain('tweed 1.2.3');
    for (const file of ['status.json', 'status.txt', 'options.txt']) expect(text(file), file).toContain('last line');
    expect(text('environment-file.txt')).toBe('FLANNELD_ETCD_PASSWORD=***\nFLANNELD_IFACE=eth0\nOTHER=***\n');
    expect(text('registry.json')).toMatch(/100\.96\.0\.0\/16.*wireguard.*\*\*\*/);
    expect(text('doctor.txt')).toMatch(/the registry .* answers/);
    expect(text('links.txt')).toContain('output of ip address');
    expect(text('firewall.txt')).toContain(
      '$ nft list ruleset\ncould not be had: nft list ruleset: nft is not installed',
    );
    expect(text('kernel.txt')).toContain('content of /proc/version');
    expect(text('daemon-process.txt')).toContain(`content of /proc/${process.pid}/status`);
    expect(text('log.txt')).toMatch(/^output of journalctl[\s\S]*last line\n$/);
  });

  it('says in each part what could not be had, and has the others', async () => {
    const { parts } = await makeReport(
      {
        ...sources,
        options: { ...sources.options, runDirectory: join(directory, 'nowhere') },
        run: async (argv) => Promise.reject(new ExecError(argv, null, `${argv[0]} is not installed`)),
        readText: async (path) => Promise.reject(new Error(`ENOENT: ${path}`)),
      },
      'folder',
      0,
    );
    const remarks = Object.fromEntries(parts.map(({ file, remark }) => [file, remark]));
    expect(remarks).toMatchObject({
      'status.json': 'could not be had: no daemon answers',
      'options.txt': expect.stringContaining('no daemon answers at'),
      'environment-file.txt': 'could not be had: ENOENT: /etc/tweed.env',
      'log.txt': expect.stringContaining('journalctl is not installed'),
      'doctor.txt': '',
      'registry.json': '',
    });
  });
});
