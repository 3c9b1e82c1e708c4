import { access, constants, open } from 'node:fs/promises';
import type { BackendKind } from '../../backend/select.js';
import type { Family } from '../../base/address.js';
import { ExecError, exec } from '../../base/exec.js';
import type { Prefix } from '../../base/ipv4.js';
import type { Ipv6Prefix } from '../../base/ipv6.js';
import { JsonError } from '../../base/json.js';
import { readTextFile } from '../../base/text-file.js';
import { kernelRelease } from '../../linux/kernel-quirks.js';
import { type UdpTotals, udpTotals } from '../../routes/device-statistics.js';
import { ipTool, type Run } from '../../routes/ip.js';
import { type LinkState, readLinks } from '../../routes/links.js';
import { type InstalledRoute, readRoutes } from '../../routes/route-table.js';
import { parseSavedRules } from '../../routes/rules/iptables-save.js';
import type { RulesMode } from '../../routes/rules/traffic-rules.js';
import type { Underlay } from '../../routes/underlay.js';
import { type PresentDevice, presentDevice } from '../../tun/present.js';
import type { SavedVariant } from './firewall/iptables-rules.js';
import { type NftablesBaseChain, nftablesChains } from './firewall/nftables-rules.js';

/** What the running daemon says of the `wireguard` backend. */
export interface WireguardAnswer {
  readonly engine: string;
  /** Why it is that one; empty where it was asked for, or is the first choice. */
  readonly reason: string;
  /** How often a peer was given up since it did not answer. */
  readonly unanswered: number;
  /** Addresses of peers that there has never been a session with. */
  readonly strangers: readonly string[];
}

/** What the host is to run: what the facts are judged by. */
export interface DoctorQuestion {
  readonly backend: BackendKind;
  /** UDP port of the overlay's datagrams; null when there are none. */
  readonly port: number | null;
  /** By which families they travel, as far as it is known. */
  readonly outerFamilies: readonly Family[];
  /** The port of those that travel by IPv6, which `wireguard` may have another for. */
  readonly portV6: number | null;
  /** The overlay's device, such as `flannel0`; where it has none of its own, the underlay's. */
  readonly device: string;
  /** Devices whose addresses and routes in the overlay are its own: today's, and the one that a daemon still serves. */
  readonly ownDevices: readonly string[];
  /** Null while no configuration is known. */
  readonly network: Prefix | null;
  /** Null while no subnet is leased. */
  readonly subnet: Prefix | null;
  /** The same of IPv6; null also where the network has none. */
  readonly networkV6: Ipv6Prefix | null;
  readonly subnetV6: Ipv6Prefix | null;
  /** The overlay's device for IPv6, such as `flannel-v6.1`; null where it is not known. */
  readonly deviceV6: string | null;
  readonly underlay: Underlay | null;
  readonly rulesMode: RulesMode;
  /** Other hosts that packets come from and go to; empty while none is known. */
  readonly peers: readonly PeerAddresses[];
  /** The process of the running daemon, which may hold the port; null when none runs. */
  readonly daemonPid: number | null;
  /** Socket buffer that the daemon asks for, in bytes. */
  readonly wantedBuffer: number;
  /** Null where no daemon runs, or another backend. */
  readonly wireguard: WireguardAnswer | null;
}

/** As the status has them: who has one family alone is called by its addresses. */
export interface PeerAddresses {
  readonly subnet: string;
  readonly publicIp: string;
  readonly subnetV6?: string | null;
  readonly publicIpv6?: string | null;
}

/** A UDP socket bound to a port of the overlay's. */
export interface PortHolder {
  readonly port: number;
  /** As `ss` prints it: an address, `0.0.0.0` or `*`. */
  readonly address: string;
  /** Empty for a socket of the kernel's own, or when it may not be known. */
  readonly program: string;
  readonly pid: number | null;
}

export interface HostFacts {
  readonly question: DoctorQuestion;
  /** `open`: it could be opened; otherwise the error. */
  readonly tun: 'open' | 'missing' | 'denied' | 'broken';
  /** The effective set of this process. */
  readonly capabilities: bigint;
  /** Root here is root of the whole machine, not of a user namespace. */
  readonly initialUserNamespace: boolean;
  /** Null when `ss` is not installed. */
  readonly portHolders: readonly PortHolder[] | null;
  /** Path below /proc/sys → text; null when there is no such file. */
  readonly sysctls: Readonly<Record<string, string | null>>;
  readonly links: readonly LinkState[];
  readonly routes: readonly InstalledRoute[];
  /** Of every variant that could be asked; empty: none is installed, or may look. */
  readonly iptables: readonly SavedVariant[];
  /** The same of ip6tables; empty also where nobody asked, since the overlay has no IPv6. */
  readonly ip6tables: readonly SavedVariant[];
  /** Two variants have rules in force. */
  readonly bothIptables: boolean;
  /** Null: not installed, or it could not be asked. */
  readonly nftables: readonly NftablesBaseChain[] | null;
  /** What stands under the overlay device's name. */
  readonly present: PresentDevice;
  /** The stable release behind the kernel's name. */
  readonly kernelRelease: string;
  readonly udp: UdpTotals;
}

/** Sysctls that the checks read, device names filled in. */
export function sysctlsOf({ device, underlay }: DoctorQuestion): readonly string[] {
  const devices = ['all', 'default', device, ...(underlay === null ? [] : [underlay.name])];
  return [
    'net/ipv4/ip_forward',
    'net/core/rmem_max',
    'net/core/wmem_max',
    'net/bridge/bridge-nf-call-iptables',
    ...new Set(devices.map((name) => `net/ipv4/conf/${name}/rp_filter`)),
  ];
}

export interface FactSources {
  /** Starts tools; a test puts `ip netns exec NAME` in front. */
  readonly run?: Run;
  /** Reads a file of /proc or /sys; null when there is none. */
  readonly readText?: (path: string) => Promise<string | null>;
}

/** Asks the host. Nothing is changed, nothing is judged. */
export async function gatherHostFacts(
  question: DoctorQuestion,
  { run = exec, readText = readTextOrNull }: FactSources = {},
): Promise<HostFacts> {
  const ip = ipTool(run);
  const sysctl = async (name: string) => [name, (await readText(`/proc/sys/${name}`))?.trim() ?? null] as const;
  const [tun, status, uidMap, portHolders, sysctls, links, routes, iptables, ip6tables, nft, snmp] = await Promise.all([
    probeTun(),
    readText('/proc/self/status'),
    readText('/proc/self/uid_map'),
    output(run, ['ss', '-H', '-l', '-u', '-n', '-p', ...sportFilter(portsOf(question))]),
    Promise.all(sysctlsOf(question).map(sysctl)),
    readLinks(ip),
    readRoutes(ip),
    readVariants(run, 4),
    question.networkV6 === null ? null : readVariants(run, 6),
    readNftables(run),
    readText('/proc/net/snmp'),
  ]);
  return {
    question,
    tun,
    capabilities: parseCapabilities(status ?? ''),
    initialUserNamespace: /^\s*0\s+0\s+4294967295\s*$/.test(uidMap ?? ''),
    portHolders: portHolders === null ? null : parsePortHolders(portHolders.stdout),
    sysctls: Object.fromEntries(sysctls),
    links,
    routes,
    ...{ iptables: iptables.variants, bothIptables: iptables.both, ip6tables: ip6tables?.variants ?? [] },
    nftables: nft,
    present: presentDevice(question.device),
    kernelRelease: kernelRelease(),
    udp: udpTotals(snmp ?? ''),
  };
}

async function readTextOrNull(path: string): Promise<string | null> {
  try {
    return await readTextFile(path);
  } catch {
    return null;
  }
}

/** What a tool printed; null when it is not installed or may not look. */
async function output(run: Run, argv: readonly string[]) {
  try {
    return await run(argv);
  } catch (thrown) {
    if (thrown instanceof ExecError) return null;
    throw thrown;
  }
}

/** Each variant by its own name; where there are none, what `iptables-save` stands for. */
async function readVariants(
  run: Run,
  family: Family,
): Promise<{ readonly variants: readonly SavedVariant[]; readonly both: boolean }> {
  const name = family === 4 ? 'iptables' : 'ip6tables';
  const [byNft, legacy] = await Promise.all([output(run, [`${name}-nft-save`]), output(run, [`${name}-legacy-save`])]);
  const saved = [
    [`${name}-nft`, byNft],
    [`${name}-legacy`, legacy],
  ] as const;
  const variants = saved.flatMap(([program, result]) =>
    result === null ? [] : [{ program, rules: parseSavedRules(result.stdout) }],
  );
  if (variants.length > 0) {
    return { variants, both: variants.filter(({ rules }) => isInForce(rules)).length > 1 };
  }
  const plain = await output(run, [`${name}-save`]);
  if (plain === null) return { variants: [], both: false };
  return {
    variants: [{ program: name, rules: parseSavedRules(plain.stdout) }],
    both: /tables present, use ip6?tables-\w+-save/.test(`${plain.stdout}${plain.stderr}`),
  };
}

function isInForce({ tables }: SavedVariant['rules']): boolean {
  return [...tables.values()].some(
    ({ rules, policies }) =>
      [...rules.values()].some((some) => some.length > 0) || [...policies.values()].includes('DROP'),
  );
}

async function readNftables(run: Run): Promise<readonly NftablesBaseChain[] | null> {
  const [json, listing] = await Promise.all([
    output(run, ['nft', '-j', 'list', 'ruleset']),
    output(run, ['nft', '-a', 'list', 'ruleset']),
  ]);
  try {
    return json === null ? null : nftablesChains(json.stdout, listing?.stdout);
  } catch (error) {
    if (error instanceof JsonError) return null; // an nft that knows no JSON
    throw error;
  }
}

async function probeTun(): Promise<HostFacts['tun']> {
  const path = '/dev/net/tun';
  try {
    // Opening alone makes no device.
    await (await open(path, 'r+')).close();
    return 'open';
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'EPERM') return 'denied';
    const exists = await access(path, constants.F_OK).then(
      () => true,
      () => false,
    );
    return exists ? 'broken' : 'missing';
  }
}

/** The line CapEff of /proc/PID/status, a hexadecimal mask (proc(5)). */
export function parseCapabilities(status: string): bigint {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return mask === undefined ? 0n : BigInt(`0x${mask}`);
}

/** The ports that the host is to listen at: `wireguard` may have a device of its own for IPv6, with another one. */
export function portsOf({ port, portV6, network, networkV6 }: DoctorQuestion): readonly number[] {
  if (port === null) return [];
  const both = network !== null && networkV6 !== null && portV6 !== null && portV6 !== port;
  return both ? [port, portV6] : [port];
}

/** For `ss`, which takes a filter in words. */
function sportFilter(ports: readonly number[]): string[] {
  if (ports.length === 0) return ['sport = :0'];
  return [ports.map((port) => `sport = :${port}`).join(' or ')];
}

/** Lines of `ss -Hlunp`: state, two queue lengths, local address and port, peer, and the processes if it may know them. */
export function parsePortHolders(text: string): readonly PortHolder[] {
  return text.split('\n').flatMap((line) => {
    const [, local, port] = /^\S+\s+\d+\s+\d+\s+(\S+):(\d+)\s/.exec(line) ?? [];
    if (local === undefined) return [];
    const user = /users:\(\("([^"]*)",pid=(\d+)/.exec(line);
    const address = local.replace(/%.*$/, '').replace(/^\[|\]$/g, '');
    return [{ port: Number(port), address, program: user?.[1] ?? '', pid: user === null ? null : Number(user[2]) }];
  });
}
