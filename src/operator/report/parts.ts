import { readdir } from 'node:fs/promises';
import { parseEnvFile } from '../../base/env-file.js';
import { messageOf } from '../../base/errors.js';
import { exec } from '../../base/exec.js';
import { silentLogger } from '../../base/log.js';
import { REDACTED } from '../../base/redact.js';
import { readTextFile } from '../../base/text-file.js';
import type { DaemonOptions } from '../../daemon/options.js';
import type { Run } from '../../routes/ip.js';
import { leaseRows } from '../../subnet/network-config/network.js';
import { openRegistry } from '../../subnet/open-registry.js';
import { examineHost, renderFindings } from '../doctor/doctor.js';
import { alignColumns } from '../format.js';
import { readHostNames } from '../host-names.js';
import { daemonSettings, fetchStatuses } from '../status-client.js';
import { renderStatus } from '../status-text.js';
import type { ReportPart } from './bundle.js';

/** What the report is about. */
export interface ReportQuestion {
  readonly options: Pick<DaemonOptions, 'registry' | 'underlay' | 'udp' | 'runDirectory' | 'subnetFile'>;
  /** Of tweed. */
  readonly version: string;
  /** What the service's unit reads, such as `/etc/tweed.env`. */
  readonly environmentFile: string;
  /** Starts tools; a test puts others in their place. */
  readonly run?: Run;
  readonly readText?: (path: string) => Promise<string>;
}

/** Lines of the log that are asked for. */
const LOG_LINES = 3000;
/** More than this a tool does not print of a host that is well; what it printed is not kept then. */
const TOOL_LIMIT = 8 * 2 ** 20;
const TOOL_PATIENCE_MS = 15_000;

/** Everything that is looked at. Nothing is changed, and neither environment nor command line of a process is read. */
export function reportParts(question: ReportQuestion): readonly ReportPart[] {
  const { options, run = exec, readText = readTextFile } = question;
  const commands =
    (...lines: string[]) =>
    async () =>
      (await Promise.all(lines.map((line) => printed(run, line.split(' '))))).join('\n');
  const files =
    (...paths: string[]) =>
    async () =>
      (await Promise.all(paths.map((path) => shownFile(readText, path)))).join('\n');
  const statuses = () => fetchStatuses(options.runDirectory);
  return [
    {
      file: 'versions.txt',
      about: 'tweed, Node, kernel, tools',
      gather: async () =>
        `tweed ${question.version}\nnode ${process.version} ${process.arch}\n\n${await commands('uname -a', 'ip -V', 'iptables --version', 'nft --version', 'wg --version', 'etcdctl version', 'docker --version', 'systemctl --version')()}\n${await files('/etc/os-release')()}`,
    },
    {
      file: 'status.json',
      about: 'what every daemon in the run directory tells of itself',
      gather: async () => `${JSON.stringify(some(await statuses()), null, 2)}\n`,
    },
    {
      file: 'status.txt',
      about: 'the same for people',
      gather: async () => {
        const names = await readHostNames();
        return some(await statuses())
          .map((status) => renderStatus(status, Date.now(), { verbose: true, names }))
          .join('\n');
      },
    },
    {
      file: 'options.txt',
      about: 'the options in force, and where each came from',
      gather: async () => {
        const settings = await daemonSettings(options.runDirectory);
        return `${alignColumns(settings.map(({ name, value, from }) => [name, [value].flat().join(', '), from])).join('\n')}\n`;
      },
    },
    {
      file: 'environment-file.txt',
      about: `the variables of ${question.environmentFile}`,
      gather: async () => ownVariables(await readText(question.environmentFile)),
    },
    {
      file: 'doctor.txt',
      about: 'what tweed doctor finds',
      gather: async () => renderFindings(await examineHost(options)),
    },
    {
      file: 'registry.json',
      about: 'the network configuration and the leases',
      gather: () => registryContents(options.registry),
    },
    { file: 'subnet-file.txt', about: `${options.subnetFile}`, gather: files(options.subnetFile) },
    {
      file: 'kernel.txt',
      about: 'processors, memory, modules, settings',
      gather: async () => `${await files(...kernelFiles)()}\n${await modules(readText)}\n${await settings(readText)}`,
    },
    {
      file: 'daemon-process.txt',
      about: 'memory, rights and limits of the daemon',
      gather: async () =>
        (
          await Promise.all(
            some(await statuses()).map(({ process: id }) => files(`/proc/${id}/status`, `/proc/${id}/limits`)()),
          )
        ).join('\n'),
    },
    {
      file: 'links.txt',
      about: 'network devices, their addresses and counters',
      gather: commands(
        'ip -details -statistics link',
        'ip address',
        'ip neighbour',
        'bridge link',
        'bridge fdb',
        'tc -statistics qdisc',
      ),
    },
    {
      file: 'routes.txt',
      about: 'routes of all tables, and the rules that choose among them',
      gather: commands('ip rule', 'ip route show table all', 'ip -6 rule', 'ip -6 route show table all'),
    },
    {
      file: 'firewall.txt',
      about: 'rules with their counters',
      gather: commands('iptables-nft-save -c', 'iptables-legacy-save -c', 'ip6tables-nft-save -c', 'nft list ruleset'),
    },
    {
      file: 'sockets.txt',
      about: 'who listens on UDP, and what the kernel counts',
      gather: async () =>
        `${await commands('ss --udp --listening --numeric --processes --memory')()}\n${await files('/proc/net/snmp', '/proc/net/snmp6', '/proc/net/softnet_stat')()}`,
    },
    { file: 'wireguard.txt', about: 'wg show, which hides keys', gather: commands('wg show') },
    {
      file: 'log.txt',
      about: 'the end of the log of the service',
      keep: 'end',
      gather: async () => {
        const argv = [
          'journalctl',
          '--unit=tweed',
          '--no-pager',
          '--quiet',
          `--lines=${LOG_LINES}`,
          '--output=short-iso',
        ];
        const { stdout } = await run(argv, { timeoutMs: TOOL_PATIENCE_MS, outputLimit: TOOL_LIMIT });
        if (stdout.trim() === '') throw new Error('the journal has no line of the unit tweed');
        return stdout;
      },
    },
  ];
}

/** An empty list would look as if there were nothing to tell. */
function some<Each>(list: readonly Each[]): readonly Each[] {
  if (list.length === 0) throw new Error('no daemon answers');
  return list;
}

/** What a program prints, behind its command line; or why it printed nothing. */
async function printed(run: Run, argv: readonly string[]): Promise<string> {
  const head = `$ ${argv.join(' ')}\n`;
  try {
    const { stdout, stderr, status } = await run(argv, {
      tolerate: true,
      timeoutMs: TOOL_PATIENCE_MS,
      outputLimit: TOOL_LIMIT,
    });
    return `${head}${stdout}${stderr}${status === 0 ? '' : `exit status ${status}\n`}`;
  } catch (error) {
    return `${head}could not be had: ${messageOf(error)}\n`;
  }
}

async function shownFile(readText: (path: string) => Promise<string>, path: string): Promise<string> {
  const text = await readText(path).catch((error: unknown) => `could not be had: ${messageOf(error)}\n`);
  return `# ${path}\n${text}`;
}

/** What is not tweed's own may be anything, so its value is not shown. */
function ownVariables(text: string): string {
  const isOwn = (name: string) => /^(FLANNELD|TWEED)_|^WIREGUARD_KEY_FILE$/.test(name);
  return [...parseEnvFile(text)].map(([name, value]) => `${name}=${isOwn(name) ? value : REDACTED}\n`).join('');
}

async function registryContents(options: DaemonOptions['registry']): Promise<string> {
  const registry = await openRegistry(options, silentLogger());
  try {
    const [{ json }, leases] = [await registry.getConfig(), await leaseRows(registry, Date.now())];
    return `${JSON.stringify({ registry: registry.description, config: json, ...leases }, null, 2)}\n`;
  } finally {
    await registry.close();
  }
}

const kernelFiles = [
  '/proc/version',
  '/proc/loadavg',
  '/proc/uptime',
  '/proc/meminfo',
  '/sys/devices/system/cpu/online',
  '/sys/devices/system/cpu/vulnerabilities/meltdown',
  '/sys/devices/virtual/dmi/id/sys_vendor',
] as const;

/** Those that packets may meet. */
async function modules(readText: (path: string) => Promise<string>): Promise<string> {
  const lines = (await readText('/proc/modules').catch(() => '')).split('\n');
  const some = lines.filter((line) =>
    /^(tun|vxlan|wireguard|fou|ipip|bridge|veth|br_netfilter|nf_|nft_|ip_|ip6|x_tables|xt_)/.test(line),
  );
  return `# modules\n${some.join('\n')}\n`;
}

const settingFolders = ['net/ipv4/conf', 'net/ipv6/conf'] as const;
const settingsByDevice = ['forwarding', 'rp_filter', 'proxy_arp', 'accept_local', 'disable_ipv6', 'mtu'] as const;
const settingNames = [
  'kernel/unprivileged_bpf_disabled',
  'net/core/bpf_jit_enable',
  'net/core/netdev_max_backlog',
  'net/core/rmem_max',
  'net/core/wmem_max',
  'net/bridge/bridge-nf-call-iptables',
  'net/ipv4/ip_forward',
  'net/ipv4/ip_no_pmtu_disc',
  'net/ipv4/udp_mem',
  'net/netfilter/nf_conntrack_count',
  'net/netfilter/nf_conntrack_max',
] as const;
/** Devices whose settings are shown. */
const MOST_DEVICES = 200;

async function settings(readText: (path: string) => Promise<string>): Promise<string> {
  const byDevice = await Promise.all(
    settingFolders.map(async (folder) => {
      const devices = await readdir(`/proc/sys/${folder}`).catch(() => [] as string[]);
      return devices
        .slice(0, MOST_DEVICES)
        .flatMap((device) => settingsByDevice.map((name) => `${folder}/${device}/${name}`));
    }),
  );
  const lines = await Promise.all(
    [...settingNames, ...byDevice.flat()].map(async (name) => {
      const value = await readText(`/proc/sys/${name}`).catch(() => null);
      return value === null ? [] : [`${name.replaceAll('/', '.')} = ${value.trim().replace(/\s+/g, ' ')}`];
    }),
  );
  return `# settings (sysctl)\n${lines.flat().join('\n')}\n`;
}
