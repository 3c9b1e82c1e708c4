import { familyOf, formatEndpoint, parseAddress } from '../base/address.js';
import { containerAddresses } from './containers.js';
import { readSubnet } from './daemon.js';
import { LabPlaceError } from './errors.js';
import { modeOf } from './modes.js';
import { namespaceOf, type Publication } from './names.js';
import { execInside } from './namespace.js';
import { containersOf } from './places.js';
import type { LabFiles, LabState } from './state.js';

/** By this comment the rules are recognised when the same port is published again. */
const comment = 'tweed lab publish';

/** A rule of a publication: who takes it, and the words behind `-A` or `-D`. */
interface Rule {
  readonly program: 'iptables' | 'ip6tables';
  readonly words: readonly string[];
}

/**
 * Sends what arrives at a port of a host on to a container, by destination NAT as Docker does: for packets from outside
 * and for the host's own, by TCP and UDP, by each family that the container has.
 */
export async function publish(state: LabState, files: LabFiles, publication: Publication): Promise<void> {
  const { namespace, rules } = await rulesOf(state, files, publication);
  for (const { program, words } of rules) {
    const table = [program, '-w', '-t', 'nat'];
    const present = await execInside(namespace, [...table, '-C', ...words], { tolerate: true });
    if (present.status !== 0) await execInside(namespace, [...table, '-A', ...words]);
  }
}

/** Takes the rules away; one that is gone already is passed over. */
export async function unpublish(state: LabState, files: LabFiles, publication: Publication): Promise<void> {
  const { namespace, rules } = await rulesOf(state, files, publication);
  for (const { program, words } of rules) {
    await execInside(namespace, [program, '-w', '-t', 'nat', '-D', ...words], { tolerate: true });
  }
}

async function rulesOf(
  state: LabState,
  files: LabFiles,
  publication: Publication,
): Promise<{ namespace: string; rules: readonly Rule[] }> {
  const { host, hostPort, targetHost, targetContainer, targetPort } = publication;
  const target = state.hosts.find(({ name }) => name === targetHost);
  const container = target && containersOf(state.options.name, target).find(({ name }) => name === targetContainer);
  if (container === undefined || !state.hosts.some(({ name }) => name === host)) {
    throw new LabPlaceError(`there is no ${host} or no ${targetHost}/${targetContainer}; see \`tweed lab status\``);
  }
  if (modeOf(state.options.modes, targetContainer).kind !== 'bridge') {
    throw new LabPlaceError(
      `${targetContainer} is not on the bridge, so there is nothing to publish; choose another container`,
    );
  }
  const addresses = containerAddresses(await readSubnet(files, targetHost), container.number);
  const matches = ['--dport', String(hostPort), '-m', 'addrtype', '--dst-type', 'LOCAL', '-m', 'comment'];
  const rules = addresses.flatMap((text) => {
    const address = parseAddress(text) ?? 0;
    const program = familyOf(address) === 4 ? ('iptables' as const) : ('ip6tables' as const);
    const destination = formatEndpoint(address, targetPort);
    const rest = [...matches, '--comment', comment, '-j', 'DNAT', '--to-destination', destination];
    return ['tcp', 'udp'].flatMap((protocol) =>
      ['PREROUTING', 'OUTPUT'].map((chain): Rule => ({ program, words: [chain, '-p', protocol, ...rest] })),
    );
  });
  return { namespace: namespaceOf(state.options.name, { kind: 'host', host }), rules };
}
