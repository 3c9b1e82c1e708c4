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
 * and for the host's own, by TCP and UDP.
 */
export async function publish(state: LabState, files: LabFiles, publication: Publication): Promise<void> {
  const { host, hostPort, targetHost, targetContainer, targetPort } = publication;
  const target = state.hosts.find(({ name }) => name === targetHost);
  const container = target && containersOf(state.options.name, target).find(({ name }) => name === targetContainer);
  if (container === undefined || !state.hosts.some(({ name }) => name === host)) {
    throw new LabPlaceError(`there is no ${host} or no ${targetHost}/${targetContainer}; see \`tweed lab status\``);
  }
  const destination = `${containerAddress(await readSubnet(files, targetHost), container.number)}:${targetPort}`;
  const namespace = namespaceOf(state.options.name, { kind: 'host', host });
  for (const protocol of ['tcp', 'udp']) {
    for (const chain of ['PREROUTING', 'OUTPUT']) {
      const rule = ['-p', protocol, '--dport', String(hostPort), '-m', 'addrtype', '--dst-type', 'LOCAL'];
      rule.push('-m', 'comment', '--comment', comment, '-j', 'DNAT', '--to-destination', destination);
      const table = ['iptables', '-w', '-t', 'nat'];
      const present = await execInside(namespace, [...table, '-C', chain, ...rule], { tolerate: true });
      if (present.status !== 0) await execInside(namespace, [...table, '-A', chain, ...rule]);
    }
  }
}
