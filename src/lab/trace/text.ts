/** A trace as people read it on a terminal. */
import { formatEnds, type Packet } from './packet.js';
import type { Step, TraceReport } from './report.js';

const outcomeMarks = { answered: '✓', arrived: '✓', refused: '✗', stopped: '✗' } as const;

export function formatTrace(report: TraceReport): string {
  const { from, to, backend, what, there, back, flooded, incomplete, verdict, mend } = report;
  const lines = [`${from} → ${to}, ${backend}: ${what}`, ''];
  lines.push(...formatSteps(there));
  if (there.length === 0) lines.push('  (seen at no device)');
  if (flooded.length > 0)
    lines.push('', `copies went to ${flooded.join(', ')}: the bridge did not know the address yet`);
  if (incomplete.length > 0)
    lines.push('', `the capture of ${incomplete.join(', ')} lost packets: hops may be missing`);
  if (back.length > 0) lines.push('', 'the way back', '', ...formatSteps(back));
  lines.push('', `${outcomeMarks[verdict.outcome]} ${verdict.text}`);
  for (const line of verdict.evidence) lines.push(`  ${line}`);
  if (mend !== '') lines.push(`  try: ${mend}`);
  return lines.join('\n');
}

function formatSteps(steps: readonly Step[]): string[] {
  const head = ['place', 'device', 'µs', 'TTL', 'bytes', 'packet'];
  const rows = steps.map((step, index) => [
    step.place,
    `${step.direction === 'in' ? '→' : ' '}${step.device}${step.direction === 'out' ? '→' : ''}`,
    step.sinceLast === null ? '0' : `+${formatMicroseconds(step.sinceLast)}`,
    String(step.packets[0].ttl),
    String(step.packets.reduce((sum, { length }) => sum + length, 0)),
    index > 0 && describePacket(steps[index - 1].packets[0]) === describePacket(step.packets[0])
      ? '″'
      : describePacket(step.packets[0]),
  ]);
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)));
  const format = (row: readonly string[]) =>
    row
      .map((cell, column) => ([2, 3, 4].includes(column) ? cell.padStart(widths[column]) : cell.padEnd(widths[column])))
      .join('  ')
      .trimEnd();
  return [
    format(head),
    ...rows.flatMap((row, index) => {
      const { packets, decisions } = steps[index];
      const carried = describeCarried(packets[0]);
      const isNew = carried !== '' && (index === 0 || carried !== describeCarried(steps[index - 1].packets[0]));
      const inside = isNew ? [carried] : [];
      return [
        format(row),
        ...inside.map((text) => `${' '.repeat(widths.slice(0, 5).reduce((sum, width) => sum + width + 2, 0))}${text}`),
        ...decisions.map((text) => `    ${text}`),
      ];
    }),
  ];
}

export function formatMicroseconds(microseconds: number): string {
  return microseconds.toFixed(microseconds < 10 ? 1 : 0);
}

/** One line without its length and TTL. */
export function describePacket(packet: Packet): string {
  const cut = packet.fragment === null ? '' : `, fragment at ${packet.fragment.offset}`;
  return `${formatEnds(packet)}${packet.dontFragment && packet.family === 4 ? ', DF' : ''}${cut}`;
}

/** What is inside a datagram of the overlay, with TTL and length. */
export function describeCarried({ carried }: Packet): string {
  if (carried === null) return '';
  if (carried.packet === null) return `└ sealed, message ${carried.counter}`;
  const vni = carried.kind === 'vxlan' ? `VXLAN ${carried.vni}: ` : '';
  const run =
    carried.kind === 'udp' && carried.count > 1 ? `a run of ${carried.count} datagrams in one send, the first: ` : '';
  const { ttl, length } = carried.packet;
  return `└ ${vni}${run}${describePacket(carried.packet)}, TTL ${ttl}, ${length} bytes`;
}
