import { ConfigError } from '../../subnet/errors.js';
import { Members } from '../../subnet/network-config/members.js';
import type { Now } from '../../wireguard/device-context.js';
import { KEY_BYTES, parseKey } from '../../wireguard/keys.js';

/**
 * What flannel takes off the MTU: outer IPv6 40, UDP 8, header 16 and tag 16 of a message. Over IPv4, 60 would do, but hosts
 * of one overlay have to agree.
 */
export const WIREGUARD_OVERHEAD = 80;
export const WIREGUARD_PORT = 51_820;
export const WIREGUARD_PORT_V6 = 51_821;
export const WIREGUARD_DEVICE = 'flannel-wg';
/** What carries IPv6 where each family has a device of its own. */
export const WIREGUARD_DEVICE_V6 = 'flannel-wg-v6';
/** RFC 791: every link carries this. */
const SMALLEST_IPV4_MTU = 68;

/** What the command line says of it, beside the network configuration. */
export interface WireguardDaemonOptions {
  readonly engine: 'auto' | 'kernel' | 'user';
  /** Where this host's private key lies. */
  readonly keyFile: string;
  /** Where `wg` looks for the sockets of devices that are no kernel's. */
  readonly socketDirectory: string;
  /** For tests: the time by which sessions begin, are renewed and end. Keys live for minutes. */
  readonly clock?: () => Now;
}

/** `Backend` of the network configuration, checked, with every default filled in. */
export interface WireguardOptions {
  /** Null for none. The same for all peers. */
  readonly presharedKey: Uint8Array | null;
  readonly mode: WireguardMode;
  readonly port: number;
  /** Of the device for IPv6, in the mode `separate`. */
  readonly portV6: number;
  /** Taken for the MTU of the underlay instead of its own; null: its own. */
  readonly underlayMtu: number | null;
  /** Seconds; 0 for none. */
  readonly keepalive: number;
}

const NAMES = ['PSK', 'ListenPort', 'ListenPortV6', 'MTU', 'PersistentKeepaliveInterval', 'Mode'] as const;
const MODES = ['separate', 'auto', 'ipv4', 'ipv6'] as const;
/**
 * `separate`: a device for each family, whose datagrams travel by the same one. The others: one device for both, whose
 * datagrams travel by IPv4, by IPv6, or by what a peer's addresses suggest.
 */
export type WireguardMode = (typeof MODES)[number];

/**
 * @returns the options, and the names that mean nothing to this backend
 * @throws ConfigError naming the option and what it may be; never with the preshared key in it
 */
export function readWireguardOptions(options: Readonly<Record<string, unknown>>): {
  readonly options: WireguardOptions;
  readonly unknown: readonly string[];
} {
  const members = new Members(options, 'Backend.');
  const mtu = members.integer('MTU', 0, 65_535) ?? 0;
  const least = SMALLEST_IPV4_MTU + WIREGUARD_OVERHEAD;
  if (mtu !== 0 && mtu < least) {
    const rule = `it is the MTU between the hosts, ${least} or more; 0 takes the interface's own`;
    throw new ConfigError('Backend.MTU', `${mtu} is not possible`, rule);
  }
  return {
    options: {
      presharedKey: readPresharedKey(members),
      mode: readMode(members.string('Mode') || 'separate'),
      port: members.integer('ListenPort', 0, 65_535) || WIREGUARD_PORT,
      portV6: members.integer('ListenPortV6', 0, 65_535) || WIREGUARD_PORT_V6,
      underlayMtu: mtu === 0 ? null : mtu,
      keepalive: members.integer('PersistentKeepaliveInterval', 0, 65_535) ?? 0,
    },
    unknown: members.unknown(NAMES),
  };
}

/**
 * Checks what is wrong on any host.
 *
 * @param dual the network has both families
 * @throws ConfigError as `readWireguardOptions` does, and where two devices would listen at one port: each listens by both families
 */
export function checkWireguardOptions(options: Readonly<Record<string, unknown>>, dual: boolean): void {
  const { mode, port, portV6 } = readWireguardOptions(options).options;
  if (!dual || mode !== 'separate' || port !== portV6) return;
  const rule = 'in the mode "separate" each family has a device with a port of its own; change one of them, or Mode';
  throw new ConfigError('Backend.ListenPortV6', `${portV6} is ListenPort too`, rule);
}

function readMode(text: string): WireguardMode {
  const mode = MODES.find((one) => one === text);
  if (mode !== undefined) return mode;
  const rule = `it is one of ${MODES.join(', ')}`;
  throw new ConfigError('Backend.Mode', `${JSON.stringify(text)} is not possible`, rule);
}

function readPresharedKey(members: Members): Uint8Array | null {
  const text = members.raw('PSK') ?? '';
  if (text === '') return null;
  try {
    const key = parseKey(typeof text === 'string' ? text : '', 'PSK');
    if (key.length === KEY_BYTES) return key;
  } catch {
    // said below, without the text
  }
  throw new ConfigError('Backend.PSK', 'is no key', 'give 32 bytes in base64, as "wg genpsk" prints them');
}
