/** The picture on top of the report: a packet's way, where it crosses the boundary, and what each part of it costs. */

import type { TimedPart } from '../../crossings/watches.js';
import type { Results } from '../../harness/results.js';
import {
  breakDown,
  type Component,
  components,
  componentTitles,
  lengthsOf,
  type Mode,
  type PartBreakdown,
  perWirePacket,
  sumBreakdown,
  totalOf,
  wirePackets,
} from '../crossings.js';
import { formatNumber } from '../format.js';
import { escapeHtml } from './document.js';

type Side = 'user' | 'kernel';

/** What lies between two steps, and where: the boundary is where the side changes. */
type Station = { readonly side: Side; readonly text: string } | { readonly part: TimedPart; readonly text: string };

const stations: readonly Station[] = [
  { side: 'user', text: 'container 1: the application' },
  { part: 'app-send', text: 'send' },
  { side: 'kernel', text: 'eth0 → veth → bridge → route → TUN queue' },
  { part: 'tun-read', text: 'read the TUN device' },
  { side: 'user', text: 'tweed on host 1' },
  { part: 'tx-work', text: 'find the peer, make headers' },
  { part: 'udp-send', text: 'send by UDP' },
  { side: 'kernel', text: 'UDP → eth0 → the underlay → eth0 → UDP queue' },
  { part: 'udp-receive', text: 'receive by UDP' },
  { side: 'user', text: 'tweed on host 2' },
  { part: 'rx-work', text: 'check, merge' },
  { part: 'tun-write', text: 'write to the TUN device' },
  { side: 'kernel', text: 'TUN → route → bridge → veth → eth0 → socket queue' },
  { part: 'app-receive', text: 'receive' },
  { side: 'user', text: 'container 2: the application' },
];

/** Both ways, one by one and in super-packets, side by side where there is room. Empty when the crossings were not measured. */
export function packetWay(results: Results): string {
  const ways = (['single', 'super'] as const).flatMap((mode) => {
    const length = lengthsOf(results, mode, 'warm').at(-1);
    return length === undefined
      ? []
      : [{ mode, length, parts: perWirePacket(breakDown(results, mode, 'warm', length), length) }];
  });
  const longest = Math.max(...ways.map(({ parts }) => totalOf(sumBreakdown(parts))));
  if (ways.length < 2 || longest === 0) return '';
  return [
    '<section class="ways"><h2>A packet’s way, and what each crossing costs</h2>',
    '<p class="note">Nanoseconds of a full packet on the wire, caches warm, one thread. The broad bars have a scale for each way; the thin one above compares both. Point at a bar for what it is made of.</p>',
    keyOfColours(),
    '<div class="pair">',
    ...ways.map(({ mode, length, parts }) => drawWay(mode, length, parts, longest)),
    '</div></section>',
  ].join('\n');
}

function keyOfColours(): string {
  const items = components.map((one) => `<li><i class="${one}"></i>${escapeHtml(componentTitles[one])}</li>`);
  return `<ul class="colours">${items.join('')}</ul>`;
}

function drawWay(mode: Mode, length: number, parts: readonly PartBreakdown[], longest: number): string {
  const sum = sumBreakdown(parts);
  const total = totalOf(sum);
  const packets = wirePackets(length);
  const title =
    mode === 'single'
      ? `One by one: ${nanoseconds(total)} a packet`
      : `In super-packets: ${nanoseconds(total)} a packet, ${packets} share each crossing`;
  const widest = Math.max(...parts.map((part) => part.total));
  let crossing = 0;
  const rows = stations.map((station) => {
    if ('side' in station) return `<li class="${station.side}">${escapeHtml(station.text)}</li>`;
    const part = parts.find((one) => one.part === station.part);
    if (part === undefined) return '';
    const isWork = part.part.endsWith('-work');
    const mark = isWork ? '·' : CIRCLED[crossing++];
    return [
      `<li class="step"><span class="what">${mark} ${escapeHtml(station.text)}</span>`,
      bar(part, widest),
      `<span class="ns">${nanoseconds(part.total)}, ${formatNumber((100 * part.total) / total, 0)} %</span></li>`,
    ].join('');
  });
  return [
    `<figure class="way" aria-label="${escapeHtml(title)}"><h3>${escapeHtml(title)}</h3>`,
    bar({ title: 'all', total, components: sum }, longest, 'thin'),
    `<ol>${rows.join('\n')}</ol></figure>`,
  ].join('\n');
}

const CIRCLED = ['①', '②', '③', '④', '⑤', '⑥'];

/** A bar as long as its share of `widest`, divided by what the time went to. */
function bar({ title, total, components: values }: Omit<PartBreakdown, 'part'>, widest: number, more = ''): string {
  const pieces = components.flatMap((component: Component) => {
    const value = values[component];
    if (value <= 0) return [];
    const tip = `${title}, ${componentTitles[component]}: ${nanoseconds(value)}, ${formatNumber((100 * value) / total, 0)} %`;
    return [
      `<i class="${component}" style="width:${((100 * value) / widest).toFixed(2)}%" title="${escapeHtml(tip)}"></i>`,
    ];
  });
  return `<span class="bar ${more}">${pieces.join('')}</span>`;
}

function nanoseconds(value: number): string {
  return value >= 10_000 ? `${formatNumber(value / 1000, 1)} µs` : `${formatNumber(value, value < 100 ? 1 : 0)} ns`;
}
