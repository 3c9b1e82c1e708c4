/** The places of a lab as a trace sees them: their addresses, how they are cabled, and which of them a packet can pass. */
import { isIPv4, isIPv6 } from 'node:net';
import { parseAddress } from '../../base/address.js';
import { containerAddresses } from '../containers.js';
import { daemonStatus, readSubnet } from '../daemon.js';
import { LabError, LabPlaceError } from '../errors.js';
import { labWords } from '../hints.js';
import type { Lab } from '../lab.js';
import type { Publication } from '../names.js';
import {
  etcdAddress,
  etcdAddressV6,
  farAddress,
  farAddressV6,
  internetAddress,
  internetAddressV6,
} from '../options.js';
import { bridgedContainersOf } from '../places.js';
import { requirePrograms, requireRoot } from '../tools.js';
import type { TraceLab } from './subject.js';

/** A lab of namespaces, as a trace needs it. */
export function traceable(lab: Lab): TraceLab {
  return {
    typed: (command, ...words) => labWords(lab.name, command, ...words),
    backend: lab.options.backend,
    publications: lab.publications,
    between: ['switch', 'internet'],
    addressBook: () => addressBook(lab),
    networkOf: (place) => lab.networkOf(place),
    daemonStatus: (host) => daemonStatus(lab.files, host),
    exec: (place, argv, options) => lab.exec(place, argv, options),
    spawn: (place, argv, options) => lab.spawn(place, argv, options),
    probe: (place) => lab.probe(place),
    prepare: async () => {
      requireRoot();
      await requirePrograms(['tcpdump', 'ping', 'iptables-save']);
    },
  };
}

async function addressBook(lab: Lab): Promise<ReadonlyMap<string, readonly string[]>> {
  const book = new Map<string, readonly string[]>([
    ['internet', [farAddress, farAddressV6, internetAddress, internetAddressV6]],
    ['etcd', [etcdAddress, etcdAddressV6]],
  ]);
  for (const host of lab.hosts) {
    const subnet = await readSubnet(lab.files, host.name).catch((error: unknown) => {
      if (error instanceof LabError) return null; // its daemon never got one
      throw error;
    });
    const gateways = subnet === null ? [] : containerAddresses(subnet, 0);
    book.set(host.name, [...host.addresses, ...gateways]);
    for (const { name, number } of bridgedContainersOf(lab.options, host)) {
      if (subnet !== null) book.set(`${host.name}/${name}`, containerAddresses(subnet, number));
    }
  }
  return book;
}

/** Whose address it is; null for nobody's. */
export function ownerOf(book: ReadonlyMap<string, readonly string[]>, address: string): string | null {
  const wanted = parseAddress(address);
  for (const [place, addresses] of book) {
    if (addresses.some((one) => parseAddress(one) === wanted)) return place;
  }
  return null;
}

/** An address of the place, or the address itself where one was given. */
export function addressAt(book: ReadonlyMap<string, readonly string[]>, to: string, family: 4 | 6 | null): string {
  const isIt = family === 6 ? isIPv6 : family === 4 ? isIPv4 : () => true;
  if (isIPv4(to) || isIPv6(to)) return to;
  const address = (book.get(to) ?? []).find(isIt);
  if (address !== undefined) return address;
  const of = family === null ? '' : ` of IPv${family}`;
  throw new LabPlaceError(
    `${to} has no address${of}; name a host, a container with a network, internet, or an address`,
  );
}

/** Where the host of a container is; the place itself for others. */
export function hostOfPlace(place: string): string {
  return place.split('/')[0] ?? place;
}

/** Where a port that is published leads; null for any other. */
export function publishedTo(publications: readonly Publication[], place: string, port: number): string | null {
  const found = publications.find(({ host, hostPort }) => host === place && hostPort === port);
  return found === undefined ? null : `${found.targetHost}/${found.targetContainer}`;
}

/** The device at the other end of a cable; null where there is none, or it is inside the place. */
export function otherEnd(place: string, device: string): { readonly place: string; readonly device: string } | null {
  if (place === 'switch') return { place: device, device: 'eth0' };
  const [host = '', container] = place.split('/');
  if (device === 'eth0') {
    return container === undefined ? { place: 'switch', device: host } : { place: host, device: `veth-${container}` };
  }
  const [, name] = /^veth-(c\d+)$/.exec(device) ?? [];
  return name === undefined ? null : { place: `${host}/${name}`, device: 'eth0' };
}
