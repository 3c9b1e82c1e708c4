// The system's programs that the lab, the tests and the benchmarks use.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { findProgram, rootAccess, run, say } from './run.mjs';

/**
 * @typedef {object} Tool
 * @property {string} program
 * @property {string} package Debian's name of the package; other distributions' are mostly alike
 * @property {string} [file] where it is, when that is no folder of programs
 * @property {boolean} [unpack] the package is only unpacked, and `file` is where the program is then
 * @property {string} [without] what is done without it; a tool that has this is not insisted on
 */

/** Tools that are taken out of a package which is not installed, for it would start a server. */
const unpacked = '/var/lib/tweed-tools';

/** @typedef {'lab' | 'test' | 'bench' | 'docker' | 'kernels' | 'arm64'} Purpose */

/** @type {Record<Purpose, Tool[]>} */
const tools = {
  lab: [
    { program: 'ip', package: 'iproute2' },
    { program: 'iptables', package: 'iptables' },
    { program: 'nft', package: 'nftables' },
    { program: 'ping', package: 'iputils-ping' },
    { program: 'tcpdump', package: 'tcpdump', without: 'packets cannot be looked at' },
    { program: 'etcd', package: 'etcd-server', without: 'the lab keeps its leases in a directory' },
  ],
  test: [
    { program: 'etcdctl', package: 'etcd-client' },
    { program: 'openssl', package: 'openssl' },
    { program: 'ethtool', package: 'ethtool' },
    { program: 'iperf3', package: 'iperf3' },
    { program: 'sysctl', package: 'procps' },
    { program: 'script', package: 'bsdutils' },
    { program: 'wireguard-go', package: 'wireguard-go' },
    { program: 'wg', package: 'wireguard-tools' },
    {
      program: 'portmap',
      file: '/usr/lib/cni/portmap',
      package: 'containernetworking-plugins',
      without: 'containers by CNI are not tried',
    },
    {
      program: 'promtool',
      file: `${unpacked}/usr/bin/promtool`,
      package: 'prometheus',
      unpack: true,
      without: 'the alert rules are not tried',
    },
    {
      program: 'systemd-analyze',
      package: 'systemd',
      without: "the service's unit is not examined, and not tried under systemd",
    },
    { program: 'chromium', package: 'chromium', without: "the benchmark's report is not looked at in a browser" },
  ],
  bench: [
    { program: 'iperf3', package: 'iperf3' },
    { program: 'ethtool', package: 'ethtool' },
  ],
  docker: [
    { program: 'dockerd', package: 'docker.io' },
    { program: 'containerd', package: 'containerd' },
    { program: 'runc', package: 'runc' },
    { program: 'docker-compose', package: 'docker-compose' },
    { program: 'mmdebstrap', package: 'mmdebstrap' },
  ],
  kernels: [
    { program: 'qemu-system-x86_64', package: 'qemu-system-x86' },
    { program: 'mke2fs', package: 'e2fsprogs' },
    { program: 'depmod', package: 'kmod' },
    { program: 'cpio', package: 'cpio' },
    { program: 'xz', package: 'xz-utils' },
  ],
  arm64: [{ program: 'qemu-system-aarch64', package: 'qemu-system-arm' }],
};

/** These run in machines of their own, which bring the lab's tools and a TUN of their own. */
const inMachines = ['kernels', 'arm64'];

/**
 * Makes sure that the tools for a purpose are installed, by apt where there is apt.
 *
 * @param {Purpose} purpose most need the lab's tools as well
 * @returns {Promise<string[]>} what is missing all the same, and how to get it
 */
export async function ensureTools(purpose) {
  const own = purpose === 'lab' || inMachines.includes(purpose);
  const wanted = own ? tools[purpose] : [...tools.lab, ...tools[purpose]];
  const isMissing = ({ program, file }) => (file === undefined ? findProgram(program) === null : !existsSync(file));
  let missing = wanted.filter(isMissing);
  if (missing.length > 0) {
    await install(missing);
    missing = wanted.filter(isMissing);
  }
  for (const tool of missing) if (tool.without) say(`• ${tool.program} is not installed: ${tool.without}`);
  const needed = missing.filter((tool) => !tool.without);
  const problems = [];
  if (needed.length > 0) {
    const list = needed.map((tool) => `${tool.program} (package ${tool.package})`).join(', ');
    problems.push(`not installed: ${list}; get them from your system's packages and run the command again`);
  }
  if (!inMachines.includes(purpose) && !existsSync('/dev/net/tun')) {
    problems.push(
      '/dev/net/tun is missing, and without it there is no TUN device. As root: modprobe tun; if the file is still ' +
        'not there: mkdir -p /dev/net && mknod /dev/net/tun c 10 200. In a container, start it with --device /dev/net/tun',
    );
  }
  return problems;
}

async function install(missing) {
  const packages = missing.map((tool) => tool.package);
  if (findProgram('apt-get') === null) return;
  const root = rootAccess();
  if ('why' in root) {
    say(`• cannot install ${packages.join(', ')}: ${root.why}`);
    return;
  }
  say(`• installing with apt: ${packages.join(', ')}`);
  const words = missing.map((tool) => (tool.unpack ? `${unpacked}:${tool.package}` : tool.package));
  const installer = fileURLToPath(new URL('install-tools.mjs', import.meta.url));
  const status = await run([...root.prefix, process.execPath, installer, ...words]);
  if (status !== 0) say('• apt could not install all of them; its messages are above');
}
