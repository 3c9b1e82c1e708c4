import { ConfigError } from '../../subnet/errors.js';

/** VXLAN header 8, UDP 8, outer IPv4 20, inner Ethernet 14 bytes (RFC 7348). */
export const VXLAN_OVERHEAD = 50;
/** The kernel's own default, older than the 4789 of RFC 7348 (drivers/net/vxlan). */
export const KERNEL_PORT = 8472;
/** RFC 791: every link carries this. */
const SMALLEST_IPV4_MTU = 68;
/** A VNI has 24 bits, but the name flannel.16777215 would be longer than the 15 characters that Linux allows. */
const LARGEST_VNI = 9_999_999;

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
 * @param options keys in lower case
 * @returns the options, and the names that mean nothing to this backend
 * @throws ConfigError naming the option and what it may be
 */
export function readVxlanOptions(options: Readonly<Record<string, unknown>>): {
  readonly options: VxlanOptions;
  readonly unknown: readonly string[];
} {
  const number = (name: (typeof NAMES)[number], least: number, most: number, absent: number): number => {
    const value = options[name.toLowerCase()] ?? absent; // null leaves the default, as in Go
    if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value;
    throw bad(name, value, `give a whole number from ${least} to ${most}, without quotes`);
  };
  const flag = (name: (typeof NAMES)[number]): boolean => {
    const value = options[name.toLowerCase()] ?? false;
    if (typeof value === 'boolean') return value;
    throw bad(name, value, 'give true or false, without quotes');
  };
  const mtu = number('MTU', 0, 65_535, 0);
  if (mtu !== 0 && mtu < SMALLEST_IPV4_MTU + VXLAN_OVERHEAD) {
    const least = SMALLEST_IPV4_MTU + VXLAN_OVERHEAD;
    throw bad('MTU', mtu, `it is the MTU between the hosts, ${least} or more; 0 takes the interface's own`);
  }
  return {
    options: {
      vni: number('VNI', 0, LARGEST_VNI, 1),
      port: number('Port', 0, 65_535, 0) || KERNEL_PORT,
      underlayMtu: mtu === 0 ? null : mtu,
      learning: flag('Learning'),
      gbp: flag('GBP'),
      directRouting: flag('DirectRouting'),
    },
    unknown: Object.keys(options).filter((key) => !NAMES.some((name) => name.toLowerCase() === key)),
  };
}

function bad(name: string, value: unknown, rule: string): ConfigError {
  return new ConfigError(`Backend.${name}`, `${JSON.stringify(value)} is not possible for vxlan`, rule);
}
