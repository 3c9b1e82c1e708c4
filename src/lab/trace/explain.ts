/** What decided where a packet went next: pure, from where it was seen and from what the places had. */
import { type AnyPrefix, formatAddress, parseAnyPrefix, prefixContains } from '../../base/address.js';
import type { DaemonStatus } from '../../observe/status.js';
import { carrierMoved, moved, type PlaceFacts } from './facts.js';
import type { Hop } from './flight.js';
import type { Packet } from './packet.js';
import type { Step } from './report.js';

type PeerStatus = NonNullable<DaemonStatus['backend']>['peers'][number];

/** Everything besides the packets themselves. */
export interface Surroundings {
  readonly before: ReadonlyMap<string, PlaceFacts>;
  readonly after: ReadonlyMap<string, PlaceFacts>;
  /** What the kernel's routing said, by {@link lookupKey}. */
  readonly routes: ReadonlyMap<string, string>;
  /** The host that has this address on the underlay; null for an address of nobody's. */
  readonly hostOf: (address: string) => string | null;
}

/** A question to a place's routing: how does what came in by a device go on? */
export interface RouteLookup {
  readonly place: string;
  readonly destination: string;
  readonly source: string;
  /** Null for what the place sends itself. */
  readonly device: string | null;
}

export function lookupKey({ place, destination, source, device }: RouteLookup): string {
  return `${place} ${destination} ${source} ${device ?? ''}`;
}

/** The words that ask it. */
export function lookupCommand({ destination, source, device }: RouteLookup): string[] {
  const incoming = device === null ? [] : ['iif', device];
  return ['ip', 'route', 'get', 'fibmatch', destination, 'from', source, ...incoming];
}

/** Which questions the hops raise: at the beginning, and wherever a packet is routed, or ended before it was. */
export function lookupsOf(
  hops: readonly Hop[],
  links: (place: string, device: string) => { master: string | null } | null,
): RouteLookup[] {
  return hops.flatMap((hop, index) => {
    const next = hops[index + 1];
    if (hop.inner === null) return [];
    if (index === 0 && hop.direction === 'out') return [lookupFor(hop, hop.inner, null)];
    const isPort = links(hop.place, hop.device)?.master != null;
    if (hop.direction === 'out' || isPort || hop.packets[0].carried !== null) return [];
    const leaves = next === undefined || (next.place === hop.place && next.direction === 'out');
    // what is routed is what destination NAT has made of it, from where it really came
    return leaves ? [lookupFor(hop, hop.inner, hop.device, next?.inner ?? hop.inner)] : [];
  });
}

function lookupFor({ place }: Hop, inner: Packet, device: string | null, routed: Packet = inner): RouteLookup {
  return { place, device, source: formatAddress(inner.source), destination: formatAddress(routed.destination) };
}

/** Adds to each hop what decided there. */
export function explain(hops: readonly Hop[], around: Surroundings): Step[] {
  return hops.map((hop, index) => ({
    ...hop,
    sinceLast: index === 0 ? null : Number(hop.at - hops[index - 1].at) / 1000,
    decisions: decisionsAt(hop, hops[index + 1] ?? null, hops[index - 1] ?? null, around),
  }));
}

function decisionsAt(hop: Hop, next: Hop | null, before: Hop | null, around: Surroundings): string[] {
  const facts = around.after.get(hop.place);
  const link = facts?.links.get(hop.device) ?? null;
  const decisions: string[] = [];
  if (before === null && hop.direction === 'out' && hop.inner !== null) {
    const route = around.routes.get(lookupKey(lookupFor(hop, hop.inner, null)));
    if (route !== undefined) decisions.push(`route: ${route}`);
  }
  if (hop.inferred && before?.inferred !== true) decisions.push('sealed: known by its length and its message counter');
  if (hop.packets.length > 1) decisions.push(piecesOf(hop.packets));
  if (next === null) return [...decisions, ...lastDecisions(hop, around)];
  const stays = next.place === hop.place;
  if (hop.direction === 'out') {
    if (facts?.daemon?.backend?.device === hop.device && link?.kind !== '')
      decisions.push(...peerOf(hop, facts, around));
    else if (link?.kind === 'bridge')
      decisions.push(`bridge ${hop.device}: the neighbour's MAC address is behind ${next.device}`);
    return [...decisions, ...timeToLive(hop, next)];
  }
  if (!stays) return [...decisions, ...straightIntoContainer(hop, next)];
  const out = next.direction === 'out';
  if (link?.master != null) {
    if (!out)
      decisions.push(
        `port of bridge ${link.master}: the frame is for the bridge's own MAC address, so it goes up to the host's routing`,
      );
    else decisions.push(`port of bridge ${link.master}: the MAC address it is for is behind port ${next.device}`);
  } else if (hop.packets[0].carried !== null && next.packets[0].carried === null) {
    decisions.push(...unpacked(hop, next, around));
  } else if (hop.inner !== null) {
    const translated = translationOf(hop, next, around);
    decisions.push(...translated.filter((text) => text.startsWith('DNAT')));
    const route = around.routes.get(lookupKey(lookupFor(hop, hop.inner, hop.device, next.inner ?? hop.inner)));
    if (route !== undefined) decisions.push(`route: ${route}`);
    decisions.push(...translated.filter((text) => !text.startsWith('DNAT')));
    if (next.packets[0].carried !== null && hop.packets[0].carried === null && facts !== undefined) {
      decisions.push(
        `kernel path: the program at ${overlayDevice(facts)} put it into a datagram; no capture there sees it`,
        ...peerOf(next, facts, around),
      );
    }
  }
  return [...decisions, ...timeToLive(hop, next)];
}

function overlayDevice(facts: PlaceFacts): string {
  return facts.daemon?.backend?.device ?? 'the overlay’s device';
}

/** What was still decided about a packet that was not seen again. */
function lastDecisions(hop: Hop, around: Surroundings): string[] {
  const facts = around.after.get(hop.place);
  if (hop.direction === 'out' || hop.inner === null || facts === undefined) return [];
  const route = around.routes.get(lookupKey(lookupFor(hop, hop.inner, hop.device)));
  if (route === undefined || route.startsWith('local ')) return [];
  const taken = takenByProgram(hop, around);
  return [
    `route: ${route}`,
    ...(taken === null
      ? []
      : [`kernel path: ${taken} took it; no capture there sees it`, ...peerOf(hop, facts, around)]),
  ];
}

/**
 * The program of the kernel path that took a packet after its last sighting, as far as route and counters tell: `the program at
 * flannel0`. Null where none did.
 */
export function takenByProgram(hop: Hop, { before, after, routes }: Surroundings): string | null {
  const facts = after.get(hop.place);
  if (hop.direction === 'out' || hop.inner === null || facts?.daemon?.backend == null) return null;
  const carried = hop.packets[0].carried !== null;
  if (carrierMoved(before.get(hop.place), facts, carried ? 'rx' : 'tx') !== 'kernel') return null;
  if (carried) return `the program at ${hop.device}`;
  const { device } = facts.daemon.backend;
  const route = routes.get(lookupKey(lookupFor(hop, hop.inner, hop.device)));
  return route?.split(' dev ')[1]?.split(' ')[0] === device ? `the program at ${device}` : null;
}

/** From the wire into the container's own link: what the kernel path does with the packets of a flow that it knows. */
function straightIntoContainer(hop: Hop, next: Hop): string[] {
  const straight =
    hop.packets[0].carried?.kind === 'udp' &&
    next.packets[0].carried === null &&
    next.direction === 'in' &&
    next.place.startsWith(`${hop.place}/`);
  if (!straight) return [];
  const said = `kernel path: the program at ${hop.device} gave what is inside straight to ${next.place}'s link; no rule, route or bridge of ${hop.place} has seen it`;
  const [before, after] = [hop.inner?.ttl, next.inner?.ttl];
  return [
    said,
    ...(before === undefined || after === undefined || before === after ? [] : [`TTL ${before} → ${after}`]),
  ];
}

/** Who takes one off it: a host that routes, and the overlay at both of its ends. */
function timeToLive(hop: Hop, next: Hop): string[] {
  const [before, after] = [hop.inner?.ttl, next.inner?.ttl];
  if (hop.place !== next.place || before === undefined || after === undefined || before === after) return [];
  return [`TTL ${before} → ${after}`];
}

function piecesOf(packets: readonly Packet[]): string {
  const fragments = packets.filter(({ fragment }) => fragment !== null).length;
  return `in ${packets.length} ${fragments > 0 ? 'fragments' : 'segments'}: ${packets.map(({ length }) => length).join(' + ')} bytes`;
}

function unpacked({ place, device, packets: [packet] }: Hop, next: Hop, { before, after }: Surroundings): string[] {
  const port = packet.ports?.destination;
  const carrier = carrierMoved(before.get(place), after.get(place), 'rx');
  switch (packet.carried?.kind) {
    case 'udp':
      return [
        carrier === 'kernel'
          ? `kernel path: the program at ${device} checks sender and packet, and gives what is inside to ${next.device}; no rule of INPUT has seen it`
          : carrier === 'user'
            ? `UDP port ${port}: tweed checks sender and packet, and writes what is inside to ${next.device}`
            : `UDP port ${port}: whoever forwards there checks sender and packet, and gives what is inside to ${next.device}`,
      ];
    case 'vxlan':
      return [
        `UDP port ${port}: the kernel's VXLAN, network ${packet.carried.vni}, gives what is inside to ${next.device}`,
      ];
    default:
      return [
        `UDP port ${port}: WireGuard opens it with the session's key, and gives what is inside to ${next.device}`,
      ];
  }
}

function peerOf({ inner }: Hop, { daemon }: PlaceFacts, { hostOf }: Surroundings): string[] {
  const peer = inner === null ? null : findPeer(daemon?.backend?.peers ?? [], inner);
  if (peer === null) return [];
  const ways: Record<string, string> = {
    udp: 'one datagram around it',
    vxlan: 'a VXLAN header around it; its MAC address and the forwarding entry were written by the daemon',
    wireguard: 'sealed for it',
  };
  const name = hostOf(peer.publicIp);
  const how = ways[daemon?.backend?.type ?? ''] ?? 'sent there';
  return [`peer: ${subnetOf(peer, inner)} is ${name === null ? '' : `${name}'s, at `}${peer.publicIp}; ${how}`];
}

/** The peer whose subnet holds the destination. */
export function findPeer(peers: readonly PeerStatus[], { destination }: Packet): PeerStatus | null {
  const holds = (text: string | null) => {
    const prefix: AnyPrefix | null = text === null ? null : parseAnyPrefix(text);
    return prefix !== null && prefixContains(prefix, destination);
  };
  return peers.find(({ subnet, subnetV6 }) => holds(subnet) || holds(subnetV6)) ?? null;
}

function subnetOf({ subnet, subnetV6 }: PeerStatus, inner: Packet | null): string {
  return inner?.family === 6 && subnetV6 !== null ? subnetV6 : subnet;
}

/** What translated addresses between two sightings in one place, and the rule that did. */
function translationOf(hop: Hop, next: Hop, { before, after }: Surroundings): string[] {
  if (hop.inner === null || next.inner === null) return [];
  return translations(hop.inner, next.inner).map(({ kind, from, to }) => {
    const rule = ruleThatMoved(
      before.get(hop.place),
      after.get(hop.place),
      kind === 'destination' ? /-j (DNAT|REDIRECT|NETMAP)\b/ : /-j (SNAT|MASQUERADE|NETMAP)\b/,
    );
    const by = rule === null ? 'connection tracking: as with the packets before it' : rule;
    return `${kind === 'destination' ? 'DNAT' : 'SNAT'}: ${kind} ${from} → ${to}, by ${by}`;
  });
}

export interface Translation {
  readonly kind: 'source' | 'destination';
  readonly from: string;
  readonly to: string;
}

/** Which addresses and ports differ. */
export function translations(before: Packet, after: Packet): Translation[] {
  return (['destination', 'source'] as const).flatMap((kind) => {
    const end = (packet: Packet) => {
      const address = formatAddress(packet[kind]);
      return packet.ports === null ? address : `${address} port ${packet.ports[kind]}`;
    };
    return end(before) === end(after) ? [] : [{ kind, from: end(before), to: end(after) }];
  });
}

/** A rule of the firewall that counted meanwhile and does such a thing. */
export function ruleThatMoved(
  before: PlaceFacts | undefined,
  after: PlaceFacts | undefined,
  target: RegExp,
): string | null {
  if (before === undefined || after === undefined) return null;
  return [...moved(before.rules, after.rules).keys()].find((rule) => target.test(rule)) ?? null;
}
