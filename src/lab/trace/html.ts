/** A trace as one page that needs nothing else: a picture of the way, and the table with what decided. */

import type { Packet } from './packet.js';
import { protocolName } from './packet.js';
import type { Step, TraceReport } from './report.js';
import { describeCarried, describePacket, formatMicroseconds } from './text.js';

export function htmlOfTrace(report: TraceReport): string {
  const { from, to, backend, what, there, back, flooded, verdict, mend } = report;
  const good = verdict.outcome === 'answered' || verdict.outcome === 'arrived';
  const title = `${from} → ${to}`;
  return [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${escapeHtml(title)}</title><link rel="icon" href="data:,"><style>${STYLE}</style></head>`,
    `<body><main><h1>${escapeHtml(title)}</h1>`,
    `<p class="note">${escapeHtml(`${backend}: ${what}`)}</p>`,
    `<p class="${good ? 'good' : 'bad'}">${escapeHtml(`${good ? '✓' : '✗'} ${verdict.text}`)}</p>`,
    verdict.evidence.length === 0
      ? ''
      : `<ul>${verdict.evidence.map((text) => `<li>${escapeHtml(text)}</li>`).join('')}</ul>`,
    mend === '' ? '' : `<p>try <code>${escapeHtml(mend)}</code></p>`,
    way('The way there', there, good ? '' : 'stopped here'),
    flooded.length === 0
      ? ''
      : `<p class="note">${escapeHtml(`Copies went to ${flooded.join(', ')}: the bridge did not know the address yet.`)}</p>`,
    way('The way back', back, ''),
    '</main></body></html>\n',
  ].join('\n');
}

function way(title: string, steps: readonly Step[], stop: string): string {
  if (steps.length === 0) return '';
  return [`<h2>${title}</h2>`, `<figure>${picture(title, steps, stop)}</figure>`, table(steps)].join('\n');
}

const WIDTH = 720;
const ROW = 46;
const TOP = 8;
/** Where the columns of the picture begin: place, device, packet. */
const DEVICE = 120;
const PACKET = 250;

/** Down the page as the packet goes: a band for each place, a row for each device, boxes in boxes for what is around the packet. */
function picture(title: string, steps: readonly Step[], stop: string): string {
  const height = TOP * 2 + steps.length * ROW + (stop === '' ? 0 : ROW);
  const longest = Math.max(...steps.map((step) => bytesOf(step)));
  const parts: string[] = [];
  let first = 0;
  for (const [index, step] of steps.entries()) {
    if (step.place === steps[index + 1]?.place) continue;
    const y = TOP + first * ROW;
    const rows = index - first + 1;
    parts.push(`<rect class="place" x="4" y="${y + 2}" width="${WIDTH - 8}" height="${rows * ROW - 4}" rx="8"/>`);
    parts.push(text(16, y + 26, step.place, 'name'));
    first = index + 1;
  }
  for (const [index, step] of steps.entries()) {
    const y = TOP + index * ROW;
    const middle = y + ROW / 2;
    if (index > 0) {
      parts.push(`<line class="way" x1="${DEVICE}" y1="${middle - ROW + 6}" x2="${DEVICE}" y2="${middle - 6}"/>`);
      parts.push(text(DEVICE + 10, y + 4, `+${formatMicroseconds(step.sinceLast ?? 0)} µs`, 'time'));
    }
    parts.push(
      `<circle class="${step.inferred ? 'dim' : 'dot'}" cx="${DEVICE}" cy="${middle}" r="6"><title>${escapeHtml(step.decisions.join('\n'))}</title></circle>`,
    );
    parts.push(text(DEVICE + 12, middle + 4, `${step.device} ${step.direction}`, 'device'));
    parts.push(boxes(step, middle, longest));
  }
  if (stop !== '') {
    const y = TOP + steps.length * ROW + ROW / 2;
    parts.push(`<line class="lost" x1="${DEVICE}" y1="${y - ROW + 6}" x2="${DEVICE}" y2="${y - 8}"/>`);
    parts.push(`<path class="lost" d="M${DEVICE - 7} ${y - 7}l14 14m0 -14l-14 14"/>`);
    parts.push(text(DEVICE + 14, y + 4, stop, 'stop'));
  }
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escapeHtml(title)}" xmlns="http://www.w3.org/2000/svg">${parts.join('\n')}</svg>`;
}

function bytesOf({ packets }: Step): number {
  return packets.reduce((sum, { length }) => sum + length, 0);
}

/** The packet, as wide as it is long; what a datagram carries in a box inside. */
function boxes(step: Step, middle: number, longest: number): string {
  const [packet] = step.packets;
  const room = WIDTH - PACKET - 20;
  const width = Math.max(170, (room * bytesOf(step)) / longest);
  const label = (one: Packet) => `${protocolName(one)} · TTL ${one.ttl} · ${one.length} B`;
  const box = (kind: string, x: number, y: number, w: number, h: number, tip: string) =>
    `<rect class="${kind}" x="${x}" y="${y}" width="${w.toFixed(0)}" height="${h}" rx="3"><title>${escapeHtml(tip)}</title></rect>`;
  const { carried } = packet;
  const several = step.packets.length > 1 ? ` × ${step.packets.length}` : '';
  if (carried === null) {
    return (
      box('inner', PACKET, middle - 10, width, 20, describePacket(packet)) +
      text(PACKET + 8, middle + 4, label(packet) + several, 'label')
    );
  }
  const outer =
    box('outer', PACKET, middle - 17, width, 34, describePacket(packet)) +
    text(PACKET + 8, middle - 6, label(packet) + several, 'label');
  const inside = carried.packet === null ? 'sealed' : label(carried.packet);
  return (
    outer +
    box(
      carried.packet === null ? 'sealed' : 'inner',
      PACKET + 24,
      middle - 2,
      width - 30,
      16,
      describeCarried(packet),
    ) +
    text(PACKET + 32, middle + 10, inside, 'label')
  );
}

function text(x: number, y: number, content: string, kind: string): string {
  return `<text class="${kind}" x="${x}" y="${y}">${escapeHtml(content)}</text>`;
}

function table(steps: readonly Step[]): string {
  const rows = steps.map((step) => {
    const [packet] = step.packets;
    const carried = packet.carried === null ? '' : `<br>${escapeHtml(describeCarried(packet))}`;
    const decisions = step.decisions.map((one) => `<br><span class="note">${escapeHtml(one)}</span>`).join('');
    const time = step.sinceLast === null ? '0' : `+${formatMicroseconds(step.sinceLast)}`;
    const cells = [step.place, `${step.device} ${step.direction}`, time, String(packet.ttl), String(bytesOf(step))];
    return `<tr>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}<td>${escapeHtml(describePacket(packet))}${carried}${decisions}</td></tr>`;
  });
  const head = ['place', 'device', 'µs', 'TTL', 'bytes', 'packet, and what decided'].map((name) => `<th>${name}</th>`);
  return `<div class="wide"><table><thead><tr>${head.join('')}</tr></thead><tbody>${rows.join('\n')}</tbody></table></div>`;
}

export function escapeHtml(content: string): string {
  return content.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

const STYLE = `
:root { color-scheme: light dark; --back: #fff; --ink: #1b1b1b; --dim: #5b5b5b; --place: #f1f4fb; --edge: #c9d2e8; --line: #274690; --inner: #cfe3ff; --outer: #ffe3b8; --sealed: #d8d8d8; --bad: #b3261e; --good: #1b6e3c; }
@media (prefers-color-scheme: dark) { :root { --back: #14161a; --ink: #e8e8e8; --dim: #a5a9b3; --place: #1d212a; --edge: #39415a; --line: #8fb0ff; --inner: #254a7d; --outer: #6b4a14; --sealed: #4a4a4a; --bad: #ff8a80; --good: #7bd79c; } }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: 0.3rem 0; } h2 { font-size: 1.2rem; margin: 1.6rem 0 0.4rem; }
p { margin: 0.5rem 0; } figure { margin: 0; } svg { width: 100%; height: auto; }
.note { color: var(--dim); font-size: 0.9rem; } .good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; } code { font-size: 0.9em; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--edge); }
td:nth-child(3), td:nth-child(4), td:nth-child(5) { text-align: right; } td:nth-child(-n+5) { white-space: nowrap; }
text { fill: var(--ink); font: 12px system-ui, "DejaVu Sans", sans-serif; } text.name { font-weight: 600; font-size: 13px; }
text.time { fill: var(--dim); font-size: 10px; } text.label { font-size: 11px; } text.stop { fill: var(--bad); font-weight: 600; }
.place { fill: var(--place); stroke: var(--edge); } .way { stroke: var(--line); stroke-width: 2; }
.dot { fill: var(--line); } .dim { fill: var(--back); stroke: var(--line); stroke-width: 2; }
.lost { stroke: var(--bad); stroke-width: 2.5; fill: none; stroke-dasharray: none; }
.inner { fill: var(--inner); stroke: var(--line); } .outer { fill: var(--outer); stroke: var(--edge); } .sealed { fill: var(--sealed); stroke: var(--edge); }
`;
