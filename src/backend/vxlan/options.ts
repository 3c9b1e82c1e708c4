import type { Family } from '../../base/address.js';
import { ConfigError } from '../../subnet/errors.js';
import { Members } from '../../subnet/network-config/members.js';

/** VXLAN header 8, UDP 8, outer IPv4 20, inner Ethernet 14 bytes (RFC 7348). */
export const VXLAN_OVERHEAD = 50;
/** The same with the outer header of IPv6. */
export const VXLAN_OVERHEAD_V6 = 70;
/** The kernel's own default, older than the 4789 of RFC 7348 (drivers/net/vxlan). */
export const KERNEL_PORT = 8472;
/** RFC 791: every link carries this. */
const SMALLEST_IPV4_MTU = 68;
/** A VNI has 24 bits, but the name flannel.16777215 would be longer than the 15 characters that Linux allows. */
const LARGEST_VNI = 9_999_999;
/** The same for flannel-v6.9999. */
export const LARGEST_VNI_V6 = 9_999;

/** `Backend` of the network configuration, checked, with every default filled in. */
export interface VxlanOptions {
  readonly vni: number;
  readonly port: number;
  /** Taken for the MTU of the underlay instead of its own; null: its own. */
  readonly underlayMtu: number | null;
  readonly learning: boolean;
  /** Group policy extension: carries the packet mark (draft-smith-vxlan-group-policy). */
  readonly gbp: boolean;
  /** Peers on the same link get plain routes. */
  readonly directRouting: boolean;
}

const NAMES = ['VNI', 'Port', 'MTU', 'Learning', 'GBP', 'DirectRouting'] as const;

/**
 * @returns the options, and the names that mean nothing to this backend
 * @throws ConfigError naming the option and what it may be
 */
export function readVxlanOptions(options: Readonly<Record<string, unknown>>): {
  readonly options: VxlanOptions;
  readonly unknown: readonly string[];
} {
  const members = new Members(options, 'Backend.');
  const mtu = members.integer('MTU', 0, 65_535) ?? 0;
  const least = SMALLEST_IPV4_MTU + VXLAN_OVERHEAD;
  if (mtu !== 0 && mtu < least) {
    const rule = `it is the MTU between the hosts, ${least} or more; 0 takes the interface's own`;
    throw new ConfigError('Backend.MTU', `${mtu} is not possible`, rule);
  }
  return {
    options: {
      vni: members.integer('VNI', 0, LARGEST_VNI) ?? 1,
      port: members.integer('Port', 0, 65_535) || KERNEL_PORT,
      underlayMtu: mtu === 0 ? null : mtu,
      learning: members.boolean('Learning', false),
      gbp: members.boolean('GBP', false),
      directRouting: members.boolean('DirectRouting', false),
    },
    unknown: members.unknown(NAMES),
  };
}

/** The name of a family's device, which flannel gives by the VNI and nothing else. */
export function vxlanDevice({ vni }: Pick<VxlanOptions, 'vni'>, family: Family = 4): string {
  return family === 4 ? `flannel.${vni}` : `flannel-v6.${vni}`;
}
