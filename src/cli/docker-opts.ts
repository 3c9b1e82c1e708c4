/** Docker's options for this host's subnet, in the words of flannel's mk-docker-opts.sh. */

export interface DockerOptionChoices {
  /** One variable for each option. */
  readonly individual: boolean;
  /** All options in one variable. */
  readonly combined: boolean;
  /** The name of that one variable. */
  readonly combinedKey: string;
  /** Whether `--ip-masq=false` may be among them. */
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
 */
export function dockerOptions(subnetFile: Variables, environment: Variables, choices: DockerOptionChoices): string {
  const inherited: Variables = { ...environment, ...subnetFile };
  const options = new Map<string, string>();
  for (const [name, value] of Object.entries(inherited)) {
    if (name.startsWith('DOCKER_OPT_') && value !== undefined) options.set(name, value);
  }
  const { FLANNEL_SUBNET: subnet, FLANNEL_MTU: mtu, FLANNEL_IPMASQ: masquerade } = inherited;
  if (subnet) options.set('DOCKER_OPT_BIP', `--bip=${subnet}`);
  if (mtu) options.set('DOCKER_OPT_MTU', `--mtu=${mtu}`);
  // When the overlay masquerades, Docker must not do it a second time.
  if (masquerade === 'true' && choices.masquerade) options.set('DOCKER_OPT_IPMASQ', '--ip-masq=false');
  const sorted = [...options].sort(([a], [b]) => (a < b ? -1 : 1));
  const both = choices.individual === choices.combined;
  let text = '';
  if (choices.individual || both) text += sorted.map(([name, value]) => `${name}="${value}"\n`).join('');
  if (choices.combined || both) {
    const values = sorted.map(([, value]) => `${value} `).join('');
    text += `${choices.combinedKey}="${inherited[choices.combinedKey] ?? ''} ${values}"\n`;
  }
  return text;
}
