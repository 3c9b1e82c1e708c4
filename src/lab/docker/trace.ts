/** The compose lab as a trace needs it. What lies between its hosts is Docker's bridge, on the machine itself, which is not looked at. */
import { PROGRAM_LIMITS, parseJson } from '../../base/json.js';
import { containerAddresses } from '../containers.js';
import { LabPlaceError } from '../errors.js';
import { parsePlace } from '../names.js';
import type { TraceLab } from '../trace/subject.js';
import type { DockerLab } from './lab.js';

export function traceableInDocker(lab: DockerLab): TraceLab {
  return {
    typed: (command, ...words) => ['npm run lab:docker --', command, ...words].join(' '),
    backend: 'udp', // docker-compose.yml stores it
    publications: [],
    between: [],
    addressBook: () => addressBook(lab),
    networkOf: (text) => {
      const place = parsePlace(text);
      if ('host' in place && lab.hosts.includes(place.host)) return text;
      throw new LabPlaceError(`a trace of the compose lab begins and ends in ${lab.hosts.join(', ')}, or in host1/c1`);
    },
    daemonStatus: (host) => lab.status(host),
    exec: (place, argv, options) => lab.exec(place, argv, options),
    spawn: (place, argv, options) => lab.spawn(place, argv, options),
    probe: (place) => lab.probe(place),
    prepare: async () => {}, // the image has all that it takes
  };
}

async function addressBook(lab: DockerLab): Promise<ReadonlyMap<string, readonly string[]>> {
  const book = new Map<string, readonly string[]>();
  for await (const { host, subnet, containers } of lab.layout()) {
    const { stdout } = await lab.exec(host, ['ip', '-json', 'address', 'show', 'scope', 'global']);
    type Shown = { ifname: string; addr_info?: { local?: string }[] };
    const links = parseJson(stdout, PROGRAM_LIMITS) as Shown[];
    const addresses = links.flatMap(({ addr_info = [] }) => addr_info.flatMap(({ local }) => local ?? []));
    // what the other hosts reach it at comes first
    const gateways = containerAddresses(subnet, 0);
    const own = addresses.filter((address) => !gateways.includes(address));
    const underlay = (await lab.status(host))?.underlay?.address;
    book.set(host, [...new Set([...(underlay == null ? [] : [underlay]), ...own, ...gateways])]);
    for (const { name, number } of containers) book.set(`${host}/${name}`, containerAddresses(subnet, number));
  }
  return book;
}
