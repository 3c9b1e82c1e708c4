import os from 'node:os';
import type { Family } from '../../src/base/address.js';
import { exec } from '../../src/base/exec.js';
import {
  createNamespaces,
  deleteNamespaces,
  inside,
  ipInside,
  processesInside,
  setSysctls,
} from '../../src/lab/namespace.js';
import { endProcesses } from '../../src/lab/process.js';
import { linkCounters } from './counters.js';

/** What the link between the hosts can do. */
export const underlayStates = ['whole', 'segmented'] as const;
export type UnderlayState = (typeof underlayStates)[number];

/** The offloads that let a veth link carry super-packets whole; what `ethtool -K` calls them. */
const SEGMENTATION = [
  'tcp-segmentation-offload',
  'tx-udp-segmentation',
  'tx-udp_tnl-segmentation',
  'tx-udp_tnl-csum-segmentation',
] as const;

/** Every benchmark namespace starts so; `tweed-bench` cannot be the name of a lab's place. */
export const NAMESPACE_PREFIX = 'tweed-bench-';

/** The overlay network that both container subnets are part of. */
export const NETWORK = '100.96.0.0/16';
/** The same of IPv6. */
export const NETWORK_V6 = 'fd00:100:96::/48';

/** What the containers of a pair speak, and what the hosts between them. */
export interface Families {
  readonly inner: Family;
  readonly underlay: Family;
}

export const IPV4_ALONE: Families = { inner: 4, underlay: 4 };

const BRIDGE = 'br0';
const SWITCH = 'switch0';

/** One of the two hosts and its one container, with one address each. */
export interface End {
  readonly number: 1 | 2;
  /** Namespaces. */
  readonly host: string;
  readonly container: string;
  /** The host's address on the underlay. */
  readonly address: string;
  /** Of 24 bits; with IPv6 64. */
  readonly subnet: string;
  /** The subnet's first address, on the host's bridge. */
  readonly gateway: string;
  readonly containerAddress: string;
}

/**
 * Two hosts on a switch, one container each, and nothing between the containers yet: a contender fills that gap.
 *
 *     container1 ─ veth ─ bridge1 ─ (contender) ─ eth0 ─ switch ─ eth0 ─ (contender) ─ bridge2 ─ veth ─ container2
 *
 * Each contender has a pair of its own, alike in everything but the MTU, so that all of them stand ready side by side
 * and a round takes them in turn without a set-up in between. All addresses are the same in every pair.
 */
export class Pair {
  readonly ends: readonly [End, End];
  readonly #switch: string;

  private constructor(
    readonly name: string,
    readonly families: Families,
  ) {
    this.#switch = `${NAMESPACE_PREFIX}${name}-switch`;
    this.ends = [makeEnd(name, 1, families), makeEnd(name, 2, families)];
  }

  /** @param mtu of the containers, in bytes; the underlay's is 1500 */
  static async up(name: string, mtu: number, families: Families = IPV4_ALONE): Promise<Pair> {
    const pair = new Pair(name, families);
    try {
      await createNamespaces(pair.#namespaces());
      await pair.#build(mtu);
    } catch (error) {
      await pair.down();
      throw error;
    }
    return pair;
  }

  #namespaces(): string[] {
    return [this.#switch, ...this.ends.flatMap(({ host, container }) => [host, container])];
  }

  async #build(mtu: number): Promise<void> {
    // duplicate address detection and router solicitations would be noise
    const { inner, underlay } = this.families;
    const [, ...speakers] = this.#namespaces();
    for (const namespace of this.#namespaces()) {
      if ((inner === 6 || underlay === 6) && speakers.includes(namespace)) {
        const switches = ['accept_dad', 'accept_ra', 'router_solicitations'];
        await setSysctls(namespace, '0', ['all', 'default'].flatMap(withPath('ipv6/conf', switches)));
      } else await setSysctls(namespace, '1', ['ipv6/conf/all/disable_ipv6']);
    }
    const [subnetLength, hostLength] = [lengthOf(inner), lengthOf(underlay)];
    await ipInside(this.#switch, [
      `link add ${SWITCH} type bridge forward_delay 0 mcast_snooping 0`,
      `link set ${SWITCH} up`,
    ]);
    for (const { number, host, container, address, gateway, containerAddress } of this.ends) {
      await ipInside(host, [
        'link set lo up',
        `link add eth0 type veth peer name port${number} netns ${this.#switch}`,
        `addr add ${address}/${hostLength} dev eth0`,
        'link set eth0 up',
        `link add ${BRIDGE} type bridge forward_delay 0 mcast_snooping 0`,
        `link set ${BRIDGE} mtu ${mtu} up`,
        `addr add ${gateway}/${subnetLength} dev ${BRIDGE}`,
        `link add veth0 mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${container}`,
        `link set veth0 master ${BRIDGE} up`,
      ]);
      await ipInside(this.#switch, [`link set port${number} master ${SWITCH} up`]);
      await ipInside(container, [
        'link set lo up',
        'link set eth0 up',
        `addr add ${containerAddress}/${subnetLength} dev eth0`,
        `route add default via ${gateway}`,
      ]);
      await setSysctls(host, '1', [inner === 4 ? 'ipv4/ip_forward' : 'ipv6/conf/all/forwarding']);
      // thousands of connections a second, each of which lingers for a minute, must not run out of ports
      await setSysctls(container, '1', ['ipv4/tcp_tw_reuse']);
      await setSysctls(container, '1024 65535', ['ipv4/ip_local_port_range']);
    }
  }

  /** Lets the link between the hosts carry super-packets whole, or has them cut where they enter it. */
  async setUnderlay(state: UnderlayState): Promise<void> {
    const word = state === 'whole' ? 'on' : 'off';
    const flags = SEGMENTATION.flatMap((feature) => [feature, word]);
    const links = [
      ...this.ends.map(({ host }) => [host, 'eth0'] as const),
      ...this.ends.map(({ number }) => [this.#switch, `port${number}`] as const),
    ];
    for (const [namespace, link] of links) await exec(inside(namespace, ['ethtool', '-K', link, ...flags]));
  }

  /**
   * Has each host take all packets of a flow from its container on one processor (receive packet steering), or on the
   * one that the sender happens to run on. The latter, which is what containers get unless somebody cares, lets packets
   * of a flow overtake each other when the sender moves.
   */
  async keepOrder(kept: boolean): Promise<void> {
    const mask = kept ? (2 ** Math.min(os.cpus().length, 32) - 1).toString(16) : '0';
    const steering = '/sys/class/net/veth0/queues/rx-0/rps_cpus';
    for (const { host } of this.ends) await exec(inside(host, ['sh', '-c', `echo ${mask} > ${steering}`]));
  }

  /** Bytes and packets that both hosts have put on the underlay. A super-packet that passes whole counts once. */
  async underlayTraffic(): Promise<{ readonly bytes: number; readonly packets: number }> {
    const counters = await Promise.all(this.ends.map(({ host }) => linkCounters(host, 'eth0')));
    return {
      bytes: counters.reduce((sum, { txBytes }) => sum + txBytes, 0),
      packets: counters.reduce((sum, { txPackets }) => sum + txPackets, 0),
    };
  }

  /** What has gone through a device of each host, both ways; null for none. */
  async deviceTraffic(
    device: ((end: End) => string) | null,
  ): Promise<{ readonly bytes: number; readonly packets: number } | null> {
    if (device === null) return null;
    const counters = await Promise.all(this.ends.map((end) => linkCounters(end.host, device(end))));
    return {
      bytes: counters.reduce((sum, { txBytes, rxBytes }) => sum + txBytes + rxBytes, 0),
      packets: counters.reduce((sum, { txPackets, rxPackets }) => sum + txPackets + rxPackets, 0),
    };
  }

  async down(): Promise<void> {
    await removeNamespaces(this.#namespaces());
  }
}

/** Ends what still runs in namespaces and deletes them. */
export async function removeNamespaces(names: readonly string[]): Promise<void> {
  await endProcesses(await processesInside(names));
  await deleteNamespaces(names);
}

function makeEnd(name: string, number: 1 | 2, { inner, underlay }: Families): End {
  const host = `${NAMESPACE_PREFIX}${name}-host${number}`;
  const inSubnet = (low: string) => (inner === 4 ? `100.96.${number}.${low}` : `fd00:100:96:${number}::${low}`);
  return {
    number,
    host,
    container: `${host}-c1`,
    address: underlay === 4 ? `192.168.64.${number}` : `fd00:192:168:64::${number}`,
    subnet: `${inSubnet(inner === 4 ? '0' : '')}/${lengthOf(inner)}`,
    gateway: inSubnet('1'),
    containerAddress: inSubnet('2'),
  };
}

/** Of a subnet, and of the underlay. */
function lengthOf(family: Family): number {
  return family === 4 ? 24 : 64;
}

/** For each device's folder, the switches in it. */
function withPath(folder: string, switches: readonly string[]): (device: string) => string[] {
  return (device) => switches.map((name) => `${folder}/${device}/${name}`);
}
