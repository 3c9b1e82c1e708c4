// What hosts install tweed from: made, installed into a folder of its own, and run from there.
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { runFlags } from '../../../src/cli/flag-table.js';
import { patient } from '../../../src/lab/patience.js';
import { deviceAddress, TestNetwork } from '../daemon/hosts.js';
import { describeUnderSystemd } from './support/under-systemd.js';

const project = fileURLToPath(new URL('../../../', import.meta.url));
const { version } = JSON.parse(fs.readFileSync(path.join(project, 'package.json'), 'utf8')) as { version: string };
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'tweed-packages-'));
const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0;

const run = (program: string, ...argv: string[]) => execFileSync(program, argv, { encoding: 'utf8' });
const found = (extension: string) => {
  const name = fs.readdirSync(scratch).find((each) => each.endsWith(extension));
  return path.join(scratch, name ?? 'none');
};

let network: TestNetwork | undefined;
afterEach(async () => {
  await network?.remove();
  network = undefined;
});

beforeAll(() => {
  run(process.execPath, path.join(project, 'scripts/package.mjs'), '--output', scratch);
}, patient(120_000));
afterAll(() => fs.rmSync(scratch, { recursive: true, force: true }));

/** Two hosts that run a tweed from elsewhere than the checkout reach each other. */
async function carries(program: readonly string[], through: readonly string[] = [], config?: string) {
  network = await TestNetwork.create(config);
  for (const host of network.hosts) {
    const key = `-wireguard-key-file=${host.directory}/key`;
    host.start([network.endpoint, '-ip-masq', '-ip-blackhole-route', key], { program, through });
  }
  const [first, second] = network.hosts;
  await Promise.all([first.ready(1), second.ready(1)]);
  const { lease, backend } = await second.status();
  // with host-gw only containers would have an address to ask
  const route = ['ip', 'route', 'get', lease?.subnet.replace(/\/.*/, '') ?? ''];
  if (backend?.type === 'host-gw') expect((await first.run(...route)).stdout).toContain(`via ${second.address}`);
  else await first.reaches(deviceAddress(await second.status()));
  return { first, second };
}

describe('the tarball', () => {
  const prefix = path.join(scratch, 'prefix');
  const command = path.join(prefix, 'bin/tweed');

  beforeAll(() => {
    const settings = ['--prefix', prefix, '--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline'];
    run('npm', 'install', '--global', ...settings, found('.tgz'));
  }, patient(120_000));

  it('brings tweed, and no other command in whose place something may be', () => {
    expect(run(command, '--version').trim()).toBe(version);
    expect(fs.readdirSync(path.join(prefix, 'bin'))).toEqual(['tweed']);
    // nothing of it leads back to where it was made
    expect(fs.realpathSync(command).startsWith(fs.realpathSync(prefix))).toBe(true);
    const modules = fs.readdirSync(path.join(prefix, 'lib/node_modules/tweed/node_modules'));
    expect(modules.filter((name) => !name.startsWith('.')).sort()).toEqual(['@koromix', 'koffi']);
  });

  it('carries packets', async () => {
    await carries([command]);
  });
});

describe('the Debian package', () => {
  const root = path.join(scratch, 'root');
  const command = path.join(root, 'usr/bin/tweed');
  const dpkg = (...argv: string[]) =>
    run('dpkg', `--root=${root}`, '--force-script-chrootless', '--force-depends', '--log=/dev/null', ...argv);
  const options = path.join(root, 'etc/tweed.env');

  beforeAll(() => {
    for (const folder of ['updates', 'info', 'triggers']) {
      fs.mkdirSync(path.join(root, 'var/lib/dpkg', folder), { recursive: true });
    }
    for (const file of ['status', 'available']) fs.writeFileSync(path.join(root, 'var/lib/dpkg', file), '');
    dpkg('--install', found('.deb'));
  });

  it('brings the command, the service, the completion and the manual page', () => {
    expect(run(command, '--version').trim()).toBe(version);
    expect(run('dpkg', `--root=${root}`, '--verify', 'tweed')).toBe('');
    for (const file of ['usr/lib/systemd/system/tweed.service', 'etc/tweed.env', 'usr/share/doc/tweed/copyright']) {
      expect(fs.existsSync(path.join(root, file)), file).toBe(true);
    }
    expect(fs.existsSync(path.join(root, 'usr/bin/flanneld'))).toBe(false);
  });

  it('has flanneld’s command line by a link of that name, wherever that is', () => {
    const link = path.join(scratch, 'flanneld');
    fs.symlinkSync(command, link);
    expect(run(link, '--help')).toContain('Usage: flanneld [options]');
  });

  it('has a manual page with every option of the daemon', () => {
    const page = run('gzip', '-dc', path.join(root, 'usr/share/man/man8/tweed.8.gz'));
    for (const { name, group, hidden } of runFlags) {
      if (!hidden && group !== 'kubernetes') expect(page).toContain(`.B \\-${name.replaceAll('-', '\\-')}`);
    }
  });

  it.each([
    ['tweed st', 'status'],
    ['tweed lab ex', 'exec'],
    ['tweed run --etcd-pre', '--etcd-prefix'],
    ['tweed run -etcd-pre', '-etcd-prefix'],
    ['tweed lab up --underlay-m', '--underlay-mtu'],
  ])('completes %s', (line, wanted) => {
    const words = line.split(' ');
    const script = `source ${root}/usr/share/bash-completion/completions/tweed
      COMP_WORDS=(${words.join(' ')}) COMP_CWORD=${words.length - 1}; _tweed; printf '%s\\n' "\${COMPREPLY[@]}"`;
    expect(run('bash', '-c', script).trim()).toBe(wanted);
  });

  it('keeps what was written into its configuration, and a purge removes it', () => {
    fs.appendFileSync(options, 'FLANNELD_IFACE=eth7\n');
    dpkg('--force-confold', '--install', found('.deb'));
    expect(fs.readFileSync(options, 'utf8')).toContain('eth7');
    dpkg('--remove', 'tweed');
    expect(fs.existsSync(command)).toBe(false);
    expect(fs.existsSync(options)).toBe(true);
    dpkg('--purge', 'tweed');
    expect(fs.existsSync(options)).toBe(false);
    dpkg('--install', found('.deb'));
  });

  describe.skipIf(!hasSystemd)('has a unit', () => {
    const unit = path.join(root, 'usr/lib/systemd/system/tweed.service');

    it('of which systemd-analyze finds little exposed', () => {
      const { stdout } = spawnSync('systemd-analyze', ['security', '--offline=true', '--no-pager', unit], {
        encoding: 'utf8',
      });
      const level = Number(/Overall exposure level for tweed.service: ([\d.]+)/.exec(stdout)?.[1]);
      expect(level).toBeLessThanOrEqual(3);
    });

    it.each(['udp', 'vxlan', 'host-gw', 'wireguard'])('under whose restrictions %s works', async (type) => {
      const text = fs.readFileSync(unit, 'utf8');
      const capabilities = /^CapabilityBoundingSet=(.*)$/m.exec(text)?.[1] ?? '';
      const names = capabilities.split(' ').map((name) => `+${name.replace('CAP_', '').toLowerCase()}`);
      // What ProtectSystem, ProtectKernelTunables and ProtectControlGroups make read only.
      const readOnly = ['/usr', '/etc', '/boot', '/proc/sys', '/sys'].filter((each) => fs.existsSync(each));
      const mounts = readOnly.map((each) => `mount --bind ${each} ${each} && mount -o remount,bind,ro ${each}`);
      const confine = fileURLToPath(new URL('./support/confine.mjs', import.meta.url));
      const through = [
        ...['unshare', '--mount', '--propagation=private'],
        ...['sh', '-c', `${mounts.join(' && ')} && exec "$@"`, 'sh'],
        ...['setpriv', `--bounding-set=-all,${names.join(',')}`, `--inh-caps=-all,${names.join(',')}`],
        ...[`--ambient-caps=-all,${names.join(',')}`, '--no-new-privs'],
        ...[process.execPath, confine, path.join(root, 'usr/lib/tweed'), unit],
      ];
      const config = `{"Network":"100.96.0.0/16","Backend":{"Type":"${type}"}}`;
      const { first } = await carries([command], through, config);
      const { process: pid, warnings } = await first.status();
      expect(fs.readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(/^Seccomp:\t2$/m);
      expect(warnings).toEqual([]);
      // what another program takes away is put back: with iptables, under the same filter
      await first.run('iptables', '-t', 'nat', '-F', 'FLANNEL-POSTRTG');
      await expect
        .poll(async () => (await first.run('iptables', '-t', 'nat', '-S', 'FLANNEL-POSTRTG')).stdout, {
          timeout: 20_000,
        })
        .toContain('MASQUERADE');
    });
  });
});

describeUnderSystemd(() => found('.deb'));
