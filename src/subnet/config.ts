import type { Prefix } from '../base/ipv4.js';

/** The cluster's network configuration, checked, with every default filled in. */
export interface NetworkConfig {
  readonly network: Prefix;
  readonly subnetLength: number;
  /** Addresses of the first and the last subnet that may be leased, in host order. */
  readonly subnetMin: number;
  readonly subnetMax: number;
  readonly enableIpv4: boolean;
  readonly enableIpv6: boolean;
  readonly enableNftables: boolean;
  readonly backend: BackendConfig;
}

export interface BackendConfig {
  /** Lower case; `udp` when the configuration names none. */
  readonly type: string;
  /** The other members of `Backend`; keys in lower case, since flannel matches them without regard to case. */
  readonly options: Readonly<Record<string, unknown>>;
}
