import { randomBytes } from 'node:crypto';
import { formatAddress, parseAddress } from '../../base/address.js';
import { LabOptionError } from '../errors.js';
import { patient } from '../patience.js';
import { captureWhile } from './capture.js';
import { explain, lookupCommand, lookupKey, lookupsOf, type RouteLookup, type Surroundings } from './explain.js';
import { gatherFacts, type Link, type PlaceFacts } from './facts.js';
import {
  addSealed,
  findAnswer,
  findError,
  findFirst,
  followPacket,
  type Hop,
  type Sighting,
  untilArrival,
  withoutFlooding,
} from './flight.js';
import { type Carrier, formatEnds, type Packet } from './packet.js';
import { addressAt, hostOfPlace, otherEnd, ownerOf, publishedTo } from './places.js';
import type { TraceReport } from './report.js';
import type { TraceLab } from './subject.js';
import { judgeTrace, type SenderTold } from './verdict.js';

export interface TraceOptions {
  readonly from: string;
  /** A place, or an address. */
  readonly to: string;
  readonly protocol: 'icmp' | 'udp' | 'tcp';
  /** Of UDP and TCP. */
  readonly port?: number | undefined;
  /** Bytes of the packet with its IP header. Without it 84, and by TCP the SYN. */
  readonly size?: number | undefined;
  readonly family?: 4 | 6 | undefined;
  /** Let something listen at the port of the place meanwhile. */
  readonly listen?: boolean | undefined;
  /** Tell the way of the answer as well. */
  readonly back?: boolean | undefined;
  /** How long an answer is waited for. */
  readonly timeoutMs?: number | undefined;
}

const usualSize = 84;
const markerLength = 16;
/** ping puts the time into the first 16 bytes of its payload. */
const pingStamp = 16;

/** Sends one packet from a place to another and follows it through every device on the way. */
export async function trace(lab: TraceLab, given: TraceOptions): Promise<TraceReport> {
  const options = { ...given, from: lab.networkOf(given.from) };
  await lab.prepare();
  const book = await lab.addressBook();
  const isAddress = parseAddress(options.to) !== null;
  const address = addressAt(book, isAddress ? options.to : lab.networkOf(options.to), options.family ?? null);
  const port = options.port ?? 0;
  const reached = ownerOf(book, address);
  const target = (reached === null || port === 0 ? null : publishedTo(lab.publications, reached, port)) ?? reached;
  const family = address.includes(':') ? 6 : 4;
  const marker = randomBytes(markerLength);
  const payload = payloadOf(options, family, marker);

  const places = placesOf(options.from, [reached, target], lab.between);
  const before = await factsOf(lab, places);
  const carrier = carrierOf(lab, before);
  const points = places.map((place) => {
    const devices = new Map([...(before.get(place)?.links.values() ?? [])].map(({ index, name }) => [index, name]));
    return { place, devices };
  });
  const timeout = patient(options.timeoutMs ?? 3_000);
  if (options.listen && target !== null && options.protocol !== 'icmp') {
    const publication = lab.publications.find(({ host, hostPort }) => host === reached && hostPort === port);
    await lab.probe(target).ask('listen', { protocol: options.protocol, port: publication?.targetPort ?? port });
  }
  const probe = lab.probe(options.from);
  await probe.ports(); // it is there
  let told: SenderTold = { outcome: 'silence', error: '', waitedMs: 0 };
  const { sightings, incomplete } = await captureWhile(lab, points, carrier, async () => {
    const { protocol } = options;
    told = await probe.ask('send', { protocol, address, port, payload: payload.toString('hex'), timeout });
  });
  const after = await factsOf(lab, places);

  const followed = findFirst(sightings, {
    place: options.from,
    marker,
    tcpPort: options.protocol === 'tcp' ? port : null,
  });
  const linkAt = (place: string, device: string) => after.get(place)?.links.get(device) ?? null;
  const isOnTheWay = ({ place, device, direction }: Hop) => {
    const end = otherEnd(place, device);
    return direction === 'in' || linkAt(place, device)?.master == null || end === null || places.includes(end.place);
  };
  const way = (packet: Packet | null, from: bigint) => {
    const later = sightings.filter(({ at }) => at >= from);
    const seen = packet === null ? [] : followPacket(later, packet);
    const device = overlayDevice(after);
    const hops = carrier?.kind === 'wireguard' && device !== null ? addSealed(seen, sightings, device) : seen;
    return withoutFlooding(hops, isOnTheWay);
  };
  const whole = way(followed, 0n);
  const there = { ...whole, hops: untilArrival(whole.hops, target) };
  const last = there.hops.at(-1);
  const error = followed === null ? null : findError(sightings, followed);
  const hasArrived = last?.direction === 'in' && last.place === target && last.inner !== null;
  const answer = hasArrived && last.inner !== null ? findAnswer(sightings, last.inner, last) : null;
  const returning = answer ?? error;
  const back = way(innerOf(returning), returning?.at ?? 0n);

  const routes = await askRoutes(lab, [
    ...lookupsOf(there.hops, linkAt),
    ...(options.back ? lookupsOf(back.hops, linkAt) : []),
    { place: options.from, destination: address, source: '', device: null },
  ]);
  const hostOf = (text: string) => ownerOf(book, text);
  const around: Surroundings = { before, after, routes, hostOf };
  const verdict = judgeTrace(
    {
      origin: options.from,
      destination: address,
      targets: target === null ? [] : [target],
      there: there.hops,
      answer,
      error,
      answerCameBack: back.hops.some(({ place, direction }) => place === options.from && direction === 'in'),
      sender: told,
      nextLink: last === undefined ? null : nextLink(last, after, hostOf),
      placeOf: hostOf,
      originRoute: routes.get(lookupKey({ place: options.from, destination: address, source: '', device: null })) ?? '',
    },
    around,
  );
  return {
    backend: lab.backend,
    from: options.from,
    to: options.to,
    destination: parseAddress(address) ?? 0,
    what:
      followed === null
        ? `${options.protocol.toUpperCase()} to ${address}`
        : `${formatEnds(followed)}, ${options.size ?? followed.length} bytes`,
    packet: followed,
    there: explain(there.hops, around),
    back: options.back ? explain(back.hops, around) : [],
    flooded: there.flooded.map(({ place, device }) => `${device} of ${place}`),
    incomplete,
    verdict,
    mend: verdict.mend === '' ? '' : typed(lab, verdict.mend),
  };
}

function typed(lab: TraceLab, mend: string): string {
  const [command = '', ...words] = mend.split(' ');
  return lab.typed(command, ...words);
}

function innerOf(sighting: Sighting | null): Packet | null {
  if (sighting === null) return null;
  return sighting.packet.carried === null ? sighting.packet : sighting.packet.carried.packet;
}

/** What the packet carries: the marker, filled up to the size that is asked for. */
function payloadOf({ protocol, size }: TraceOptions, family: 4 | 6, marker: Buffer): Buffer {
  if (protocol === 'tcp' && size === undefined) return Buffer.alloc(0);
  // TCP with the timestamps that every Linux sends
  const headers = (family === 4 ? 20 : 40) + { icmp: 8, udp: 8, tcp: 32 }[protocol];
  const least = headers + markerLength + (protocol === 'icmp' ? pingStamp : 0);
  const wanted = size ?? Math.max(usualSize, least);
  if (!Number.isInteger(wanted) || wanted < least || wanted > 65_535) {
    throw new LabOptionError(`size is ${wanted}; choose a whole number from ${least} to 65535, the IP header included`);
  }
  const payload = Buffer.alloc(wanted - headers);
  for (let at = 0; at < payload.length; at += marker.length) marker.copy(payload, at);
  return payload;
}

/** Where is looked: both ends, their hosts, and what lies between, as far as the lab has it. */
function placesOf(from: string, ends: readonly (string | null)[], between: readonly string[]): string[] {
  const known = ends.filter((end) => end !== null);
  const places = new Set([from, hostOfPlace(from), ...known.flatMap((end) => [hostOfPlace(end), end])]);
  const hosts = new Set([...places].map(hostOfPlace));
  // an address that is nobody's may lead to the internet
  if (known.length < ends.length && between.includes('internet')) hosts.add('internet');
  const onTheWay = between.filter((place) => place !== 'internet');
  if (hosts.size > 1) for (const place of [...onTheWay, ...hosts]) places.add(place);
  return [...places];
}

async function factsOf(lab: TraceLab, places: readonly string[]): Promise<ReadonlyMap<string, PlaceFacts>> {
  const facts = await Promise.all(
    places.map(async (place) => {
      const isHost = /^host\d+$/.test(place);
      const run = (argv: readonly string[]) => lab.exec(place, argv, { tolerate: true });
      const daemon = () => (isHost ? lab.daemonStatus(place) : Promise.resolve(null));
      return [place, await gatherFacts(run, place !== 'switch', daemon)] as const;
    }),
  );
  return new Map(facts);
}

const usualPorts = { udp: [8285], vxlan: [8472], wireguard: [51_820, 51_821] };

function carrierOf({ backend }: TraceLab, facts: ReadonlyMap<string, PlaceFacts>): Carrier | null {
  if (backend === 'host-gw') return null;
  const told = [...facts.values()].find(({ daemon }) => daemon?.port != null)?.daemon;
  const ports = told == null ? usualPorts[backend] : [told.port, told.portV6];
  return { kind: backend, ports: ports.filter((port) => typeof port === 'number') };
}

function overlayDevice(facts: ReadonlyMap<string, PlaceFacts>): string | null {
  for (const { daemon } of facts.values()) if (daemon?.backend) return daemon.backend.device;
  return null;
}

/** Asks the kernel of each place, as it would be asked by hand. */
async function askRoutes(lab: TraceLab, lookups: readonly RouteLookup[]): Promise<ReadonlyMap<string, string>> {
  const answers = await Promise.all(
    lookups.map(async (lookup) => {
      const argv =
        lookup.source === '' ? ['ip', 'route', 'get', 'fibmatch', lookup.destination] : lookupCommand(lookup);
      const { stdout, stderr } = await lab.exec(lookup.place, argv, { tolerate: true });
      const text = (stdout.trim() || stderr.trim()).split('\n')[0]?.trim().replace(/\s+/g, ' ') ?? '';
      return [lookupKey(lookup), text] as const;
    }),
  );
  return new Map(answers);
}

/** The device that it would have been seen at next. */
function nextLink(
  last: Hop,
  facts: ReadonlyMap<string, PlaceFacts>,
  placeOf: (address: string) => string | null,
): { place: string; link: Link } | null {
  const at = (end: { place: string; device: string } | null) => {
    const link = end === null ? undefined : facts.get(end.place)?.links.get(end.device);
    return end === null || link === undefined ? null : { place: end.place, link };
  };
  const link = facts.get(last.place)?.links.get(last.device);
  if (last.direction === 'out' && link?.kind !== 'bridge') return at(otherEnd(last.place, last.device));
  const owner = placeOf(formatAddress(last.packets[0].destination));
  if (owner === null) return null;
  if (last.place === 'switch') return at({ place: 'switch', device: hostOfPlace(owner) });
  const isBehindBridge = owner.startsWith(`${last.place}/`) && (link?.kind === 'bridge' || link?.master != null);
  return isBehindBridge ? at({ place: last.place, device: `veth-${owner.split('/')[1]}` }) : null;
}
