/** Did it arrive, and if not, where did it stop and why: pure, from what was seen and what was counted meanwhile. */
import { formatAddress, parseAddress, parseAnyPrefix, prefixContains } from '../../base/address.js';
import { plural } from '../../base/plural.js';
import { findPeer, ruleThatMoved, type Surroundings, takenByProgram } from './explain.js';
import { type Link, moved } from './facts.js';
import type { Hop, Sighting } from './flight.js';
import { isReset, type Packet, protocolName } from './packet.js';
import type { Verdict } from './report.js';

/** How the sending program fared: an answer, an error's code such as `ECONNREFUSED`, or nothing for so long. */
export interface SenderTold {
  readonly outcome: 'answer' | 'silence' | 'error';
  /** Code and words of the error, empty for none. */
  readonly error: string;
  readonly waitedMs: number;
}

export interface Observed {
  readonly origin: string;
  readonly destination: string;
  /** The places at which the packet has arrived. */
  readonly targets: readonly string[];
  readonly there: readonly Hop[];
  /** The answer of the target, or an ICMP error from anywhere, where it was seen first. */
  readonly answer: Sighting | null;
  readonly error: Sighting | null;
  /** Did the answer get back to the origin? */
  readonly answerCameBack: boolean;
  readonly sender: SenderTold;
  /** The device that the packet would have reached next; null where nobody knows. */
  readonly nextLink: { readonly place: string; readonly link: Link } | null;
  /** Whose address this is; null for nobody's. */
  readonly placeOf: (address: string) => string | null;
  /** What the origin's routing said. */
  readonly originRoute: string;
}

export function judgeTrace(seen: Observed, around: Surroundings): Verdict {
  const last = seen.there.at(-1);
  if (last === undefined) return neverLeft(seen, around);
  const arrived = last.direction === 'in' && seen.targets.includes(last.place) && last.packets[0].carried === null;
  return arrived ? judgeArrival(seen, last, around) : judgeStop(seen, last, around);
}

function judgeArrival(seen: Observed, last: Hop, around: Surroundings): Verdict {
  const where = `${last.place} (${last.device})`;
  const took = `after ${milliseconds(last.at - seen.there[0].at)} ms`;
  const answer = seen.answer?.packet ?? null;
  const refusal = ruleThatMoved(around.before.get(last.place), around.after.get(last.place), REFUSING);
  if (refusal !== null && (answer === null || answer.icmp !== null)) {
    return {
      outcome: 'refused',
      text: `it arrived at ${where} ${took}, and a firewall rule of ${last.place} itself refused it`,
      evidence: [`counted meanwhile: ${refusal}`],
      mend: deletionOf(last.place, refusal),
    };
  }
  if (answer !== null && (isReset(answer) || isUnreachable(answer))) {
    const port = last.packets[0].ports?.destination;
    return {
      outcome: 'refused',
      text: `it arrived at ${where} ${took}, and was refused: nothing listens at ${protocolName(last.packets[0]).split(' ')[0]} port ${port} there`,
      evidence: [
        `answered with ${protocolName(answer)}`,
        'let a program listen there; --listen does so for the time of a trace',
      ],
      mend: '',
    };
  }
  if (answer === null) {
    const isUdp = last.packets[0].ports !== null && last.packets[0].tcp === null;
    const more = isUdp ? '; UDP need not answer' : '';
    return {
      outcome: 'arrived',
      text: `it arrived at ${where} ${took}; no answer was seen${more}`,
      evidence: [],
      mend: '',
    };
  }
  const text = `it arrived at ${where} ${took}, and was answered with ${protocolName(answer)}`;
  if (seen.answerCameBack) return { outcome: 'answered', text, evidence: [], mend: '' };
  return {
    outcome: 'arrived',
    text: `${text}; but the answer did not come back: trace the way from ${last.place}`,
    evidence: [],
    mend: '',
  };
}

function isUnreachable({ icmp, family }: Packet): boolean {
  return icmp !== null && icmp.type === (family === 4 ? 3 : 1) && icmp.code === (family === 4 ? 3 : 4);
}

const REFUSING = /-j (DROP|REJECT)\b/;

function milliseconds(nanoseconds: bigint): string {
  return (Number(nanoseconds) / 1e6).toFixed(2);
}

function neverLeft({ origin, destination, sender, originRoute }: Observed, around: Surroundings): Verdict {
  const refusal = ruleThatMoved(around.before.get(origin), around.after.get(origin), REFUSING);
  if (refusal !== null) {
    return {
      outcome: 'stopped',
      text: `it never left ${origin}: a firewall rule there refused it`,
      evidence: [`counted meanwhile: ${refusal}`],
      mend: deletionOf(origin, refusal),
    };
  }
  const noRoute = /unreachable/i.test(originRoute);
  const text = noRoute ? `${origin} has no route to ${destination}` : `it never left ${origin}`;
  const evidence = [
    ...(originRoute === '' ? [] : [`ip route get: ${originRoute}`]),
    ...(sender.error === '' ? [] : [`the sending program was told ${sender.error}`]),
  ];
  return { outcome: 'stopped', text, evidence, mend: noRoute ? `exec ${origin} -- ip route` : '' };
}

interface Cause {
  readonly why: string;
  readonly evidence: string;
  readonly mend: string;
}

function judgeStop(seen: Observed, last: Hop, around: Surroundings): Verdict {
  const causes = causesOf(seen, last, around);
  const went =
    last.direction === 'out'
      ? `leaving ${last.place} by ${last.device}`
      : `coming into ${last.place} by ${last.device}`;
  const why = causes[0]?.why ?? 'nobody counted or said why';
  const program = takenByProgram(last, around);
  const taken = program === null ? '' : `, where ${program} took it (kernel path), which no capture sees`;
  return {
    outcome: 'stopped',
    text: `it was last seen ${went}${taken}: ${why}`,
    evidence: causes.map(({ evidence }) => evidence).filter((one) => one !== ''),
    mend: causes.find(({ mend }) => mend !== '')?.mend ?? '',
  };
}

/** Everything that speaks for a reason, the strongest first. */
function causesOf(seen: Observed, last: Hop, around: Surroundings): Cause[] {
  const place = last.place;
  const [before, after] = [around.before.get(place), around.after.get(place)];
  return [
    ...tooLong(seen, last),
    ...refusedByRule(place, around),
    ...nobodysSubnet(seen, around),
    ...toldByIcmp(seen),
    ...droppedByDaemon(place, around),
    ...daemonGone(last, around),
    ...linkDown(seen),
    ...silentNeighbour(last, around),
    ...countedByKernel(place, before?.counters ?? new Map(), after?.counters ?? new Map()),
    ...closedPolicy(last, around),
    ...droppedByDevice(seen, place, around),
  ];
}

function tooLong({ nextLink }: Observed, last: Hop): Cause[] {
  if (nextLink === null) return [];
  const length = Math.max(...last.packets.map((packet) => packet.length));
  const { place, link } = nextLink;
  if (length <= link.mtu) return [];
  return [
    {
      why: `an MTU hole: it has ${length} bytes there, and ${link.name} of ${place} takes no more than ${link.mtu}. Nobody is told, since no router is there to tell`,
      evidence: `MTU of ${link.name} of ${place}: ${link.mtu}`,
      mend: `exec ${place} -- ip link set ${link.name} mtu ${length}`,
    },
  ];
}

function refusedByRule(place: string, { before, after }: Surroundings): Cause[] {
  const rule = ruleThatMoved(before.get(place), after.get(place), REFUSING);
  if (rule === null) return [];
  return [
    {
      why: `a firewall rule of ${place} refused it`,
      evidence: `counted meanwhile: ${rule}`,
      mend: deletionOf(place, rule),
    },
  ];
}

/** `filter -A INPUT …` → the command that deletes it. */
function deletionOf(place: string, rule: string): string {
  const words = rule.split(' ');
  const program = words[0] === 'ip6tables' ? (words.shift() as string) : 'iptables';
  const [table, , ...rest] = words;
  return `exec ${place} -- ${program} -t ${table} -D ${rest.join(' ')}`;
}

function toldByIcmp({ error, placeOf }: Observed): Cause[] {
  if (error === null) return [];
  const { packet } = error;
  const inner = packet.carried?.packet ?? packet;
  const who = formatAddress(inner.source);
  const said = `${protocolName(inner)}${inner.icmp?.mtu ? ` (MTU ${inner.icmp.mtu})` : ''}`;
  const overDatagram = inner.icmp?.quoted?.carried != null;
  const at = placeOf(who);
  const speaker = `${at ?? error.place}${at === null ? ` (as ${who})` : ''}`;
  const port = inner.icmp?.quoted?.ports?.destination;
  if (overDatagram && isUnreachable(inner)) {
    return [
      {
        why: `nothing listens at UDP port ${port} of ${speaker}: its daemon is down`,
        evidence: `${speaker} answered the datagram with ${said}`,
        mend: 'up',
      },
    ];
  }
  return [{ why: `${speaker} sent it back: ${said}`, evidence: `${speaker} answered with ${said}`, mend: '' }];
}

/** An address of the overlay that no host has leased. */
function nobodysSubnet({ destination }: Observed, { after }: Surroundings): Cause[] {
  const address = parseAddress(destination);
  const holds = (text: string | null | undefined) => {
    const prefix = text == null ? null : parseAnyPrefix(text);
    return prefix !== null && address !== null && prefixContains(prefix, address);
  };
  const daemons = [...after.values()].map(({ daemon }) => daemon).filter((daemon) => daemon !== null);
  const ofOverlay = daemons.some(({ network, networkV6 }) => holds(network) || holds(networkV6));
  const leased = daemons.some(({ lease, backend }) =>
    [lease, ...(backend?.peers ?? [])].some((one) => holds(one?.subnet) || holds(one?.subnetV6)),
  );
  const why = `no host of the overlay has a subnet with ${destination}`;
  return ofOverlay && !leased ? [{ why, evidence: '', mend: '' }] : [];
}

function droppedByDaemon(place: string, { before, after }: Surroundings): Cause[] {
  const drops = (facts: typeof before) => new Map(Object.entries(facts.get(place)?.daemon?.backend?.drops ?? {}));
  return [...moved(drops(before), drops(after))].map(([reason, by]) => ({
    why: `the daemon of ${place} dropped it (${reason})`,
    evidence: `drop counter of ${place}'s daemon that moved: ${reason} by ${by}`,
    mend: `exec ${place} -- tweed status`,
  }));
}

/** A packet on its way into or out of the overlay, and nobody who carries it. */
function daemonGone({ place, device, packets }: Hop, { before, after }: Surroundings): Cause[] {
  const facts = after.get(place);
  const isTun = facts?.links.get(device)?.kind === 'tun';
  if (facts === undefined || facts.daemon !== null || !(isTun || packets[0].carried !== null)) return [];
  if (before.get(place)?.daemon == null && !place.startsWith('host')) return [];
  return [
    {
      why: `the daemon of ${place} does not answer`,
      evidence: `no daemon answers in ${place}`,
      mend: 'up',
    },
  ];
}

function linkDown({ nextLink }: Observed): Cause[] {
  if (nextLink === null || nextLink.link.up) return [];
  const { place, link } = nextLink;
  return [
    {
      why: `${link.name} of ${place} is down`,
      evidence: `${link.name} of ${place}: down`,
      mend: `exec ${place} -- ip link set ${link.name} up`,
    },
  ];
}

/** Whoever is next on the link does not say where it is, so nothing can be sent there. */
function silentNeighbour({ place, packets: [packet], inner }: Hop, { after }: Surroundings): Cause[] {
  const facts = after.get(place);
  if (facts === undefined) return [];
  const peer = inner === null ? null : findPeer(facts.daemon?.backend?.peers ?? [], inner);
  const next = [formatAddress(packet.destination), peer?.publicIp, peer?.publicIpv6];
  return [...facts.silent]
    .filter(([address]) => next.includes(address))
    .map(([address, device]) => ({
      why: `${address} does not answer on ${device} when ${place} asks where it is (${address.includes(':') ? 'neighbour discovery' : 'ARP'})`,
      evidence: `neighbour ${address} on ${device} of ${place}: no answer`,
      mend: '',
    }));
}

/** Counters of the kernel that only grow when a packet is lost, and what they mean. */
const LOSSES: Readonly<Record<string, string>> = {
  'Ip.OutNoRoutes': 'no route',
  'IpExt.InNoRoutes': 'no route',
  'Ip.InAddrErrors': 'the address is not to be reached from there',
  'Ip.InHdrErrors': 'a bad header, or its time to live was over',
  'Ip.FragFails': 'too long for the next device, and not to be fragmented',
  'Ip.ReasmFails': 'a fragment is missing',
  'TcpExt.IPReversePathFilter': 'reverse path filtering: no way back to the sender by the device it came from',
  'Udp.NoPorts': 'nothing listens at the UDP port',
  'Udp.RcvbufErrors': 'the receive buffer of the socket was full',
};

function countedByKernel(
  place: string,
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): Cause[] {
  const grown = moved(before, after);
  return Object.entries(LOSSES).flatMap(([name, why]) => {
    const by = grown.get(name);
    if (by === undefined) return [];
    const evidence = `kernel counter of ${place} that moved: ${name} by ${by}`;
    if (name === 'Ip.InAddrErrors' && after.get('Ip.Forwarding') === DOES_NOT_FORWARD) {
      return [
        {
          why: `${place} does not forward packets, and this one is not for itself`,
          evidence: `${evidence}; net.ipv4.ip_forward is 0`,
          mend: `exec ${place} -- sysctl -w net.ipv4.ip_forward=1`,
        },
      ];
    }
    return [{ why: `${place} dropped it: ${why}`, evidence, mend: '' }];
  });
}

/** ipForwarding of RFC 4293, which the kernel shows among its counters. */
const DOES_NOT_FORWARD = 2;

/** The policy of nft's iptables does not count, so it is only suspected, of what else would have been forwarded. */
function closedPolicy({ place, direction }: Hop, { after }: Surroundings): Cause[] {
  const closed = direction === 'in' && after.get(place)?.rules.has('filter -P FORWARD DROP');
  if (!closed) return [];
  return [
    {
      why: `${place} forwards nothing that no rule accepts (policy DROP)`,
      evidence: `policy of FORWARD in ${place}: DROP`,
      mend: `exec ${place} -- iptables -P FORWARD ACCEPT`,
    },
  ];
}

function droppedByDevice({ nextLink }: Observed, place: string, { before, after }: Surroundings): Cause[] {
  const places = new Set([place, ...(nextLink === null ? [] : [nextLink.place])]);
  return [...places].flatMap((one) => {
    const drops = (facts: typeof before) =>
      new Map([...(facts.get(one)?.links ?? [])].map(([name, { dropped }]) => [name, dropped]));
    return [...moved(drops(before), drops(after))].map(([device, by]) => ({
      why: `${device} of ${one} dropped it`,
      evidence: `${device} of ${one} dropped ${plural(by, 'packet')}`,
      mend: '',
    }));
  });
}
