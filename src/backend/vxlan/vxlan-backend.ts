/**
 * The `vxlan` backend: the kernel's VXLAN device, one for each family, with a route, a neighbour and a forwarding entry for
 * every peer.
 *
 * The kernel does the forwarding, also while no daemon runs. This compares what it knows with what the peers announced,
 * and writes the difference, in a few processes however many peers there are.
 */

import type { Family } from '../../base/address.js';
import { countsOf, sumOf, udpTotals } from '../../routes/device-statistics.js';
import { ConfigError } from '../../subnet/errors.js';
import type { Lease, LeaseAttributes, PeerSet } from '../../subnet/lease.js';
import type { Backend, BackendContext, BackendStatus, FeatureStatus } from '../backend.js';
import { halvesFor } from '../kernel/halves.js';
import { hostKernel, type Kernel } from '../kernel/kernel.js';
import { KernelPeers } from '../kernel/kernel-peers.js';
import {
  LARGEST_VNI_V6,
  readVxlanOptions,
  VXLAN_OVERHEAD,
  VXLAN_OVERHEAD_V6,
  type VxlanOptions,
  vxlanDevice,
} from './options.js';
import { Vtep } from './vtep.js';

export class VxlanBackend implements Backend {
  readonly type = 'vxlan';
  readonly mtu: number;
  readonly notCarried: ReadonlyMap<Family, string>;
  /** The kernel forwards, and nothing of ours can fail for good. */
  readonly failed = new Promise<Error>(() => {});
  readonly #context: BackendContext;
  readonly #kernel: Kernel;
  readonly #options: VxlanOptions;
  readonly #peers: KernelPeers;
  /** One for each family, IPv4's first. */
  readonly #vteps: readonly Vtep[];

  /**
   * @param runDirectory where the MACs are kept, for when a device is gone
   * @throws ConfigError when an option of the network configuration is wrong
   * @throws NoHalfError when the host has no address of a family that the network has
   */
  constructor(context: BackendContext, runDirectory: string, kernel: Kernel = hostKernel) {
    const { underlay, config, log } = context;
    const { options, unknown } = readVxlanOptions(config.backend.options);
    for (const name of unknown) log.warn(`vxlan knows no option "${name}"; ignored`);
    if (config.ipv6 !== null && options.vni > LARGEST_VNI_V6) {
      const rule = `with EnableIPv6 it may be ${LARGEST_VNI_V6} at most, or the name of the device would be too long`;
      throw new ConfigError('Backend.VNI', `${options.vni} is too large`, rule);
    }
    let underlayMtu = options.underlayMtu ?? underlay.mtu;
    if (underlayMtu > underlay.mtu) {
      log.warn(`Backend.MTU ${underlayMtu} is more than ${underlay.name} carries; using its ${underlay.mtu}`);
      underlayMtu = underlay.mtu;
    }
    const { halves, notCarried } = halvesFor(context, (family) => ({
      device: vxlanDevice(options, family),
      mtu: underlayMtu - (family === 4 ? VXLAN_OVERHEAD : VXLAN_OVERHEAD_V6),
    }));
    this.#context = context;
    this.#kernel = kernel;
    this.#peers = new KernelPeers(
      log,
      halves.map(({ family }) => family),
    );
    this.#options = options;
    this.notCarried = notCarried;
    this.mtu = Math.min(...halves.map(({ mtu }) => mtu));
    this.#vteps = halves.map((half) => new Vtep({ half, options, underlay: underlay.name, runDirectory, log, kernel }));
  }

  async attributes(): Promise<LeaseAttributes> {
    const { publicIp, publicIpv6 } = this.#context;
    const [ipv4, ipv6] = ([4, 6] as const).map((family) => this.#vteps.find(({ half }) => half.family === family));
    return {
      publicIp: ipv4 === undefined ? 0 : publicIp,
      publicIpv6: ipv6 === undefined ? null : publicIpv6,
      backendType: this.type,
      ...(ipv4 && { backendData: await ipv4.announcement() }),
      ...(ipv6 && { backendV6Data: await ipv6.announcement() }),
    };
  }

  async start(lease: Lease, peers: PeerSet): Promise<void> {
    const undo: (() => Promise<void>)[] = [];
    try {
      for (const vtep of this.#vteps) undo.push(await vtep.begin(lease));
      for (const line of await this.setPeers(peers)) this.#context.log.info(line);
    } catch (error) {
      for (const takeAway of undo) await takeAway();
      throw error;
    }
  }

  /** Makes the devices and all they know of the peers what they are to be, whatever they are now. */
  async setPeers(peers: PeerSet): Promise<readonly string[]> {
    const leftovers = this.#peers.leftovers(peers);
    const settled = [];
    const failures: unknown[] = [];
    for (const vtep of this.#vteps) {
      try {
        const one = await vtep.sync(peers.leases, leftovers);
        if (one !== null) settled.push(one);
      } catch (error) {
        failures.push(error); // what one family lacks takes nothing from the other
      }
    }
    if (failures.length > 0) throw failures[0];
    if (settled.length === 0) return [];
    const mended = this.#peers.settle(peers, {
      troubles: new Map(settled.flatMap(({ troubles }) => [...troubles])),
      wanted: JSON.stringify(settled.map(({ wanted }) => wanted)),
      done: settled.flatMap(({ done }) => done),
    });
    const made = settled.flatMap((one) => one.made ?? []);
    return [...settled.flatMap((one) => one.mended), ...(made.length > 0 ? made : mended)];
  }

  status(): BackendStatus {
    const { totals, drops } = countsOf(sumOf(this.#vteps.map((vtep) => vtep.totals)));
    return {
      type: this.type,
      device: this.#vteps.map(({ name }) => name).join(', '),
      mtu: this.mtu,
      peers: this.#peers.reached,
      refused: this.#peers.refused,
      features: this.#features(),
      totals,
      drops: {
        ...drops,
        // Of the whole host. VXLAN over some network cards sends wrong ones: docs/backends.md
        host_udp_checksum: udpTotals(this.#kernel.readStatistics('snmp')).checksumErrors,
      },
    };
  }

  #features(): FeatureStatus[] {
    const { learning, gbp, directRouting } = this.#options;
    const flags = { learning, gbp, direct_routing: directRouting };
    return Object.entries(flags).map(([name, on]) => {
      const state = on ? 'on' : 'off';
      return { name, wanted: state, inForce: state, reason: '' };
    });
  }

  async stop(options: { readonly cleanUp: boolean }): Promise<void> {
    for (const vtep of this.#vteps) await vtep.stop(options);
  }
}
