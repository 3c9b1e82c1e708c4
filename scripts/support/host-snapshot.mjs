// What the project must leave as it was: everything of the root namespace that an overlay, a lab or a test could change.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

/** @returns {Record<string, string[]>} lines by kind, in a stable order */
export function takeSnapshot() {
  return {
    addresses: links(),
    routes: [
      ...lines('ip', '-4', 'route', 'show', 'table', 'all'),
      ...lines('ip', '-6', 'route', 'show', 'table', 'all'),
    ],
    rules: [...lines('ip', '-4', 'rule'), ...lines('ip', '-6', 'rule')],
    nftables: lines('nft', '--stateless', 'list', 'ruleset'),
    iptables: ['iptables-save', 'ip6tables-save', 'iptables-legacy-save'].flatMap(savedRules),
    namespaces: lines('ip', 'netns', 'list').map((line) => line.replace(/ .*/, '')),
    sysctls: sysctls('/proc/sys/net'),
    // programs of a kernel path: a filter keeps them by its qdisc, a path by a bpffs
    qdiscs: lines('tc', 'qdisc', 'show').map((line) => line.replace(/ refcnt \d+/, '')),
    filters: lines('ip', '-brief', 'link').flatMap((line) => filtersOf(line.split(/[ @]/)[0])),
    bpffs: lines('cat', '/proc/mounts').filter((line) => line.split(' ')[2] === 'bpf'),
    pins: lines('find', '/sys/fs/bpf', '-mindepth', '1'),
  };
}

/** @returns {string[]} one line for each difference, `+` for what came and `-` for what went */
export function compareSnapshots(before, after) {
  const differences = [];
  for (const kind of Object.keys(before)) {
    const [old, now] = [new Set(before[kind]), new Set(after[kind])];
    const keys = new Set(before[kind].map(keyOf));
    for (const line of old) if (!now.has(line)) differences.push(`- ${kind}: ${line}`);
    for (const line of now) {
      // A kernel module that is loaded for the first time brings switches of its own, at their defaults.
      if (!old.has(line) && (kind !== 'sysctls' || keys.has(keyOf(line)))) differences.push(`+ ${kind}: ${line}`);
    }
  }
  return differences;
}

function keyOf(line) {
  return line.split(' = ')[0];
}

function filtersOf(device) {
  return ['ingress', 'egress'].flatMap((way) =>
    lines('tc', 'filter', 'show', 'dev', device, way).map((line) => `${device} ${way}: ${line}`),
  );
}

function lines(program, ...args) {
  const { status, stdout } = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 64 << 20 });
  return status === 0 ? stdout.split('\n').filter((line) => line.trim() !== '') : [];
}

/** Every link with its addresses, without what changes by itself: lifetimes of addresses. */
function links() {
  const [text = '[]'] = [lines('ip', '-json', 'address').join('')];
  return JSON.parse(text || '[]').map((link) => {
    const addresses = link.addr_info.map(({ local, prefixlen, scope }) => `${local}/${prefixlen} ${scope}`);
    const { ifname, flags, mtu, qdisc, master, txqlen, address } = link;
    return JSON.stringify({ ifname, flags, mtu, qdisc, master, txqlen, address, addresses });
  });
}

/** Rules without the time of the listing and without counters. */
function savedRules(program) {
  return lines(program)
    .filter((line) => !line.startsWith('#'))
    .map((line) => `${program.replace('-save', '')}: ${line.replace(/ \[\d+:\d+\]$/, '')}`);
}

// It counts connections.
const changesByItself = /\/nf_conntrack_count$/;

function sysctls(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sysctls(path);
    if (changesByItself.test(path)) return [];
    try {
      return [`${path} = ${readFileSync(path, 'utf8').trim()}`];
    } catch {
      return []; // write-only, or not for this user
    }
  });
}

/** The processes that could be ours: started from this folder, or programs that the tests start. */
export function listProcesses(project) {
  const found = [];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const command = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0').join(' ').trim();
      const folder = readlinkSync(`/proc/${entry}/cwd`);
      const program = command.split(' ')[0].split('/').at(-1);
      const ours =
        command.includes(project) || `${folder}/`.startsWith(project) || /^(etcd|iperf3|flanneld)$/.test(program);
      if (ours) found.push({ pid: Number(entry), command });
    } catch {} // ended meanwhile, a kernel thread, or another user's
  }
  return found;
}
