import { messageOf } from '../base/errors.js';
import { patient } from './patience.js';
import type { Probe } from './probe/client.js';
import type { Ports } from './probe/protocol.js';

/** One end of the matrix: a container, wherever its probe was started. */
export interface MatrixPlace {
  readonly name: string;
  readonly address: string;
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
 * Checks every ordered pair of places: ping, a TCP transfer compared by hash, a UDP exchange and one larger than the
 * MTU. TCP and UDP also compare the sender's address, which must arrive as it was sent.
 */
export async function runMatrix(places: readonly MatrixPlace[], settings: MatrixSettings = {}): Promise<MatrixResult> {
  const { transferBytes = 8 * 1024 * 1024, largeBytes = 8_000, atOnce = 4, onPair } = settings;
  const ports = new Map(await Promise.all(places.map(async (place) => [place, await place.probe.ports()] as const)));
  const waiting = places.flatMap((from) => places.filter((to) => to !== from).map((to) => ({ from, to })));
  const pairs: PairResult[] = [];
  const worker = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const { from, to } = next;
      const pair = await checkPair(from, to, ports.get(to) as Ports, transferBytes, largeBytes);
      pairs.push(pair);
      onPair?.(pair);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  const order = new Map(places.map(({ name }, index) => [name, index]));
  const position = (pair: PairResult) => (order.get(pair.from) ?? 0) * places.length + (order.get(pair.to) ?? 0);
  pairs.sort((a, b) => position(a) - position(b));
  return { ok: pairs.every(({ checks }) => checkNames.every((name) => checks[name].ok)), pairs };
}

async function checkPair(
  from: MatrixPlace,
  to: MatrixPlace,
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
  return { from: from.name, to: to.name, checks: results as Record<CheckName, CheckResult> };
}

function failed(detail: string): CheckResult {
  return { ok: false, detail };
}

function seen(seenAs: string, from: MatrixPlace, detail: string): CheckResult {
  return seenAs === from.address ? { ok: true, detail } : failed(`it arrived from ${seenAs}, not ${from.address}`);
}

/** The matrix as people read it: a row for each sender, a column for each receiver, one letter for each failed check. */
export function formatMatrix(result: MatrixResult): string {
  const names = [...new Set(result.pairs.map(({ from }) => from))];
  const width = Math.max(...names.map((name) => name.length), 'from \\ to'.length);
  const cell = (from: string, to: string): string => {
    const pair = result.pairs.find((candidate) => candidate.from === from && candidate.to === to);
    if (pair === undefined) return '·';
    const bad = checkNames.filter((name) => !pair.checks[name].ok);
    return bad.length === 0 ? 'ok' : `✗ ${bad.map((name) => name[0]).join('')}`;
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
  const bad = result.pairs.flatMap(({ from, to, checks }) =>
    checkNames.filter((name) => !checks[name].ok).map((name) => `${from} → ${to} ${name}: ${checks[name].detail}`),
  );
  const total = result.pairs.length * checkNames.length;
  lines.push('', ...bad, `${total - bad.length} of ${total} checks passed (${checkNames.join(', ')} for each pair)`);
  return lines.join('\n');
}
