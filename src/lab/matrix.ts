import { isIPv6 } from 'node:net';
import type { Family } from '../base/address.js';
import { messageOf } from '../base/errors.js';
import { patient } from './patience.js';
import type { Probe } from './probe/client.js';
import type { Ports } from './probe/protocol.js';

/** One end of the matrix: a container, wherever its probe was started. */
export interface MatrixPlace {
  readonly name: string;
  /** Of each family at most one. */
  readonly addresses: readonly string[];
  readonly probe: Probe;
}

export const checkNames = ['ping', 'tcp', 'udp', 'large'] as const;
export type CheckName = (typeof checkNames)[number];

export interface CheckResult {
  readonly ok: boolean;
  /** What was seen, or what went wrong. */
  readonly detail: string;
}

export interface PairResult {
  readonly from: string;
  readonly to: string;
  readonly family: Family;
  readonly checks: Readonly<Record<CheckName, CheckResult>>;
}

export interface MatrixResult {
  readonly ok: boolean;
  readonly pairs: readonly PairResult[];
}

export interface MatrixSettings {
  /** Bytes of each TCP transfer. */
  readonly transferBytes?: number;
  /** Bytes of the datagram that has to be sent in fragments. */
  readonly largeBytes?: number;
  /** How many pairs are busy at once. */
  readonly atOnce?: number;
  readonly onPair?: (pair: PairResult) => void;
}

const patience = { ping: patient(3_000), transfer: patient(20_000), exchange: patient(1_000), tries: 3 };

/**
 * Checks every ordered pair of places by each family that both have: ping, a TCP transfer compared by hash, a UDP exchange and one larger than the
 * MTU. TCP and UDP also compare the sender's address, which must arrive as it was sent.
 */
export async function runMatrix(places: readonly MatrixPlace[], settings: MatrixSettings = {}): Promise<MatrixResult> {
  const { transferBytes = 8 * 1024 * 1024, largeBytes = 8_000, atOnce = 4, onPair } = settings;
  const ports = new Map(await Promise.all(places.map(async (place) => [place, await place.probe.ports()] as const)));
  const waitingAtFirst = places.flatMap((from) => places.filter((to) => to !== from).map((to) => ({ from, to })));
  const waiting = [...waitingAtFirst];
  const pairs: PairResult[] = [];
  const worker = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const { from, to } = next;
      for (const [own, address] of sharedFamilies(from, to)) {
        const ends = { from: { ...from, address: own }, to: { ...to, address } };
        const pair = await checkPair(ends.from, ends.to, ports.get(to) as Ports, transferBytes, largeBytes);
        pairs.push(pair);
        onPair?.(pair);
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  const order = new Map(places.map(({ name }, index) => [name, index]));
  const position = (pair: PairResult) =>
    ((order.get(pair.from) ?? 0) * places.length + (order.get(pair.to) ?? 0)) * 10 + pair.family;
  pairs.sort((a, b) => position(a) - position(b));
  // A matrix in which nothing was checked is not right.
  const complete = waitingAtFirst.every(({ from, to }) => sharedFamilies(from, to).length > 0);
  return { ok: complete && pairs.every(({ checks }) => checkNames.every((name) => checks[name].ok)), pairs };
}

/** The addresses of both, by each family that both have. */
function sharedFamilies(from: MatrixPlace, to: MatrixPlace): readonly (readonly [string, string])[] {
  return from.addresses.flatMap((own) => {
    const address = to.addresses.find((other) => isIPv6(other) === isIPv6(own));
    return address === undefined ? [] : [[own, address] as const];
  });
}

/** One end of a check, by one family. */
interface MatrixEnd extends MatrixPlace {
  readonly address: string;
}

async function checkPair(
  from: MatrixEnd,
  to: MatrixEnd,
  ports: Ports,
  transferBytes: number,
  largeBytes: number,
): Promise<PairResult> {
  const { address } = to;
  const datagram = async (bytes: number): Promise<CheckResult> => {
    const result = await from.probe.ask('exchange', {
      address,
      port: ports.udp,
      bytes,
      tries: patience.tries,
      timeout: patience.exchange,
    });
    if (!result.returned) return failed(`${bytes} bytes did not come back in ${result.tries} tries`);
    return seen(result.seenAs, from, `${bytes} bytes and back, ${result.tries} tries`);
  };
  const checks: Record<CheckName, () => Promise<CheckResult>> = {
    ping: async () => {
      const { received, detail } = await from.probe.ask('ping', { address, timeout: patience.ping });
      return { ok: received, detail };
    },
    tcp: async () => {
      const result = await from.probe.ask('transfer', {
        address,
        port: ports.tcp,
        bytes: transferBytes,
        timeout: patience.transfer,
      });
      if (result.sentHash !== result.receivedHash) return failed('other bytes arrived than were sent');
      const rate = ((result.bytes * 8) / result.milliseconds / 1000).toFixed(0);
      return seen(result.seenAs, from, `${result.bytes} bytes, ${rate} Mbit/s`);
    },
    udp: () => datagram(100),
    large: () => datagram(largeBytes),
  };
  const results: Partial<Record<CheckName, CheckResult>> = {};
  for (const name of checkNames) {
    results[name] = await checks[name]().catch((error: unknown) => failed(messageOf(error)));
  }
  const family = isIPv6(address) ? 6 : 4;
  return { from: from.name, to: to.name, family, checks: results as Record<CheckName, CheckResult> };
}

function failed(detail: string): CheckResult {
  return { ok: false, detail };
}

function seen(seenAs: string, from: MatrixEnd, detail: string): CheckResult {
  return seenAs === from.address ? { ok: true, detail } : failed(`it arrived from ${seenAs}, not ${from.address}`);
}

/** The matrix as people read it: a row for each sender, a column for each receiver, one letter for each failed check, behind a 6 those by IPv6. */
export function formatMatrix(result: MatrixResult): string {
  const names = [...new Set(result.pairs.map(({ from }) => from))];
  const width = Math.max(...names.map((name) => name.length), 'from \\ to'.length);
  const cell = (from: string, to: string): string => {
    const pairs = result.pairs.filter((candidate) => candidate.from === from && candidate.to === to);
    if (pairs.length === 0) return '·';
    const bad = pairs.flatMap(({ family, checks }) => {
      const letters = checkNames.filter((name) => !checks[name].ok).map((name) => name[0]);
      return letters.length === 0 ? [] : [`${family === 6 ? '6' : ''}${letters.join('')}`];
    });
    return bad.length === 0 ? 'ok' : `✗ ${bad.join(' ')}`;
  };
  const row = (first: string, cells: readonly string[]) =>
    [first.padEnd(width), ...cells.map((text) => text.padEnd(width))].join('  ').trimEnd();
  const lines = [
    row('from \\ to', names),
    ...names.map((from) =>
      row(
        from,
        names.map((to) => cell(from, to)),
      ),
    ),
  ];
  const by = (family: Family) => (family === 6 ? ' by IPv6' : '');
  const bad = result.pairs.flatMap(({ from, to, family, checks }) =>
    checkNames
      .filter((name) => !checks[name].ok)
      .map((name) => `${from} → ${to}${by(family)} ${name}: ${checks[name].detail}`),
  );
  const families = new Set(result.pairs.map(({ family }) => family));
  const total = result.pairs.length * checkNames.length;
  lines.push(
    '',
    ...bad,
    `${total - bad.length} of ${total} checks passed (${checkNames.join(', ')} for each pair${families.size > 1 ? ' and family' : ''})`,
  );
  return lines.join('\n');
}
