import { familyOf, formatEndpoint, parseAddress } from '../base/address.js';
import { containerAddress } from './containers.js';
import { readSubnet } from './daemon.js';
import { LabPlaceError } from './errors.js';
import { namespaceOf, type Publication } from './names.js';
import { execInside } from './namespace.js';
import { containersOf } from './places.js';
import type { LabFiles, LabState } from './state.js';

/** By this comment the rules are recognised when the same port is published again. */
const comment = 'tweed lab publish';

/**
 * Sends what arrives at a port of a host on to a container, by destination NAT as Docker does: for packets from outside
 * and for the host's own, by TCP and UDP; by IPv4, and only in a lab without it by IPv6.
 */
export async function publish(state: LabState, files: LabFiles, publication: Publication): Promise<void> {
  const { host, hostPort, targetHost, targetContainer, targetPort } = publication;
  const target = state.hosts.find(({ name }) => name === targetHost);
  const container = target && containersOf(state.options.name, target).find(({ name }) => name === targetContainer);
  if (container === undefined || !state.hosts.some(({ name }) => name === host)) {
    throw new LabPlaceError(`there is no ${host} or no ${targetHost}/${targetContainer}; see \`tweed lab status\``);
  }
  const address = parseAddress(containerAddress(await readSubnet(files, targetHost), container.number)) ?? 0;
  const destination = formatEndpoint(address, targetPort);
  const program = familyOf(address) === 4 ? 'iptables' : 'ip6tables';
  const namespace = namespaceOf(state.options.name, { kind: 'host', host });
  for (const protocol of ['tcp', 'udp']) {
    for (const chain of ['PREROUTING', 'OUTPUT']) {
      const rule = ['-p', protocol, '--dport', String(hostPort), '-m', 'addrtype', '--dst-type', 'LOCAL'];
      rule.push('-m', 'comment', '--comment', comment, '-j', 'DNAT', '--to-destination', destination);
      const table = [program, '-w', '-t', 'nat'];
      const present = await execInside(namespace, [...table, '-C', chain, ...rule], { tolerate: true });
      if (present.status !== 0) await execInside(namespace, [...table, '-A', chain, ...rule]);
    }
  }
}
