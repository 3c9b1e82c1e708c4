// Installs Debian packages without starting their services. Run as root: install-tools.mjs PACKAGE…
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';

const packages = process.argv.slice(2);
/** What these packages would start at the next boot. */
const services = {
  'etcd-server': ['etcd.service'],
  'docker.io': ['docker.service', 'docker.socket'],
  containerd: ['containerd.service'],
};
const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };

function apt(...args) {
  const patience = ['-o', 'DPkg::Lock::Timeout=120']; // seconds, while another apt is at work
  const { status, stdout, stderr } = spawnSync('apt-get', ['-q', ...patience, ...args], { env, encoding: 'utf8' });
  if (status !== 0) process.stderr.write(`${stdout}${stderr}`);
  return status === 0;
}

// The packages of etcd and iperf3 would start servers; this file tells Debian's scripts not to (see invoke-rc.d(8)).
const policy = '/usr/sbin/policy-rc.d';
const ownPolicy = !existsSync(policy);
if (ownPolicy) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
try {
  apt('update'); // a mirror that fails may not be the one that is needed
  const together = apt('install', '--yes', '--no-install-recommends', ...packages);
  // One unknown package fails them all; so each gets a try of its own.
  const failed = together ? [] : packages.filter((name) => !apt('install', '--yes', '--no-install-recommends', name));
  if (existsSync('/run/systemd/system')) {
    const installed = packages.filter((name) => !failed.includes(name));
    const units = installed.flatMap((name) => services[name] ?? []);
    if (units.length > 0) spawnSync('systemctl', ['disable', '--quiet', ...units], { stdio: 'inherit' });
  }
  process.exitCode = failed.length === 0 ? 0 : 1;
} finally {
  if (ownPolicy) rmSync(policy);
}
