import { formatIpv6Prefix, parseIpv6Prefix } from '../base/ipv6.js';
import { OptionError } from './flags.js';

/** Docker's options for this host's subnet, in the words of flannel's mk-docker-opts.sh. */

export interface DockerOptionChoices {
  /** One variable for each option. */
  readonly individual: boolean;
  /** All options in one variable. */
  readonly combined: boolean;
  /** The name of that one variable. */
  readonly combinedKey: string;
  /** Whether `--ip-masq` may be among them. */
  readonly masquerade: boolean;
}

type Variables = Readonly<Record<string, string | undefined>>;

/**
 * The content of Docker's environment file.
 *
 * Besides those made here, variables called DOCKER_OPT_… of the environment or of the subnet file are options too, and
 * what the combined variable held before stays in front: so a script's users add options of their own.
 *
 * @param subnetFile the variables of subnet.env
 * @throws OptionError where the overlay's masquerading is neither true nor false, or its IPv6 subnet is none
 */
export function dockerOptions(subnetFile: Variables, environment: Variables, choices: DockerOptionChoices): string {
  const inherited: Variables = { ...environment, ...subnetFile };
  const options = new Map<string, string>();
  for (const [name, value] of Object.entries(inherited)) {
    if (name.startsWith('DOCKER_OPT_') && value !== undefined) options.set(name, value);
  }
  const { FLANNEL_SUBNET: subnet, FLANNEL_MTU: mtu, FLANNEL_IPMASQ: masquerade } = inherited;
  const { FLANNEL_IPV6_SUBNET: subnetV6 } = inherited;
  if (subnet) options.set('DOCKER_OPT_BIP', `--bip=${subnet}`);
  if (subnetV6) {
    options.set('DOCKER_OPT_IPV6', '--ipv6');
    options.set('DOCKER_OPT_FIXED_CIDR_V6', `--fixed-cidr-v6=${networkOf(subnetV6)}`);
  }
  if (mtu) options.set('DOCKER_OPT_MTU', `--mtu=${mtu}`);
  // One of the two masquerades: Docker where the overlay does not.
  if (masquerade && choices.masquerade) {
    if (masquerade !== 'true' && masquerade !== 'false') {
      throw new OptionError(`FLANNEL_IPMASQ=${masquerade}: the value must be true or false`);
    }
    options.set('DOCKER_OPT_IPMASQ', `--ip-masq=${masquerade === 'false'}`);
  }
  const sorted = [...options].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => [name, fold(value)] as const);
  const both = choices.individual === choices.combined;
  let text = '';
  if (choices.individual || both) text += sorted.map(([name, value]) => `${name}="${value}"\n`).join('');
  if (choices.combined || both) {
    const before = inherited[choices.combinedKey] ?? '';
    const values = sorted.map(([, value]) => ` ${value}`).join('');
    text += `${choices.combinedKey}="${before === '' ? '' : `${before} `}${values}"\n`;
  }
  return text;
}

/** As an unquoted word of the shell is read: runs of white space are one blank, none at the ends. */
function fold(value: string): string {
  return value.trim().replace(/\s+/g, ' ');
}

/** Docker wants the first address of the network, and gives the bridge the one after it: the one that the file has. */
function networkOf(subnet: string): string {
  const prefix = parseIpv6Prefix(subnet);
  if (prefix === null) throw new OptionError(`FLANNEL_IPV6_SUBNET=${subnet}: the value must be an IPv6 prefix`);
  return formatIpv6Prefix(prefix);
}
