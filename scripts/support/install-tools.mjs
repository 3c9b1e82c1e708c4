// Installs Debian packages without starting their services. Run as root: install-tools.mjs PACKAGE…
// FOLDER:PACKAGE is not installed but unpacked there.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const words = process.argv.slice(2);
const packages = words.filter((word) => !word.includes(':'));
const toUnpack = words.filter((word) => word.includes(':')).map((word) => word.split(':'));
/** What these packages would start at the next boot. */
const services = {
  'etcd-server': ['etcd.service'],
  'docker.io': ['docker.service', 'docker.socket'],
  containerd: ['containerd.service'],
};
const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };

function apt(...args) {
  return aptIn('/', ...args);
}

function aptIn(cwd, ...args) {
  const patience = ['-o', 'DPkg::Lock::Timeout=120']; // seconds, while another apt is at work
  const { status, stdout, stderr } = spawnSync('apt-get', ['-q', ...patience, ...args], { cwd, env, encoding: 'utf8' });
  if (status !== 0) process.stderr.write(`${stdout}${stderr}`);
  return status === 0;
}

/** Fetches a package and takes its files out. @returns whether that went well */
function unpack([folder, name]) {
  const scratch = mkdtempSync(join(tmpdir(), 'tweed-tools-'));
  try {
    // without the sandbox, whose user may not write here
    if (!aptIn(scratch, '-o', 'APT::Sandbox::User=root', 'download', name)) return false;
    const deb = readdirSync(scratch).find((file) => file.endsWith('.deb'));
    mkdirSync(folder, { recursive: true });
    return spawnSync('dpkg-deb', ['--extract', join(scratch, deb), folder], { stdio: 'inherit' }).status === 0;
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

// The packages of etcd and iperf3 would start servers; this file tells Debian's scripts not to (see invoke-rc.d(8)).
const policy = '/usr/sbin/policy-rc.d';
const ownPolicy = !existsSync(policy);
if (ownPolicy) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
try {
  apt('update'); // a mirror that fails may not be the one that is needed
  const together = packages.length === 0 || apt('install', '--yes', '--no-install-recommends', ...packages);
  // One unknown package fails them all; so each gets a try of its own.
  const failed = together ? [] : packages.filter((name) => !apt('install', '--yes', '--no-install-recommends', name));
  if (existsSync('/run/systemd/system')) {
    const installed = packages.filter((name) => !failed.includes(name));
    const units = installed.flatMap((name) => services[name] ?? []);
    if (units.length > 0) spawnSync('systemctl', ['disable', '--quiet', ...units], { stdio: 'inherit' });
  }
  const notUnpacked = toUnpack.filter((one) => !unpack(one));
  process.exitCode = failed.length + notUnpacked.length === 0 ? 0 : 1;
} finally {
  if (ownPolicy) rmSync(policy);
}
