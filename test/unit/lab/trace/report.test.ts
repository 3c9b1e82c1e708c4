/** A report as text and as a page. */
import { parseHTML } from 'linkedom';
import { describe, expect, it } from 'vitest';
import { escapeHtml, htmlOfTrace } from '../../../../src/lab/trace/html.js';
import type { Step, TraceReport } from '../../../../src/lab/trace/report.js';
import { describeCarried, describePacket, formatMicroseconds, formatTrace } from '../../../../src/lab/trace/text.js';
import { carrying, hop, icmp, ipv4, read, udp } from './support.js';

const data = new Uint8Array(16).fill(9);
const ping = ipv4(1, icmp(8, 0, data), { dontFragment: true });

function step(where: string, bytes: Uint8Array, sinceLast: number | null, ...decisions: string[]): Step {
  return { ...hop(where, 1, bytes), sinceLast, decisions };
}

const there = [
  step('host1/c1 eth0 out', ping, null, 'route: default via 100.96.1.1 dev eth0'),
  step('host1 veth-c1 in', ping, 12.3),
  step('host1 eth0 out', carrying(ping), 1361, 'peer: <host2>'),
];

function report(more: Partial<TraceReport> = {}): TraceReport {
  return {
    ...{ backend: 'udp', from: 'host1/c1', to: 'host2/c1', destination: 2, what: 'a ping', packet: read(ping), there },
    ...{ back: [], flooded: [], incomplete: [], mend: '' },
    verdict: { outcome: 'answered', text: 'it arrived', evidence: [], mend: '' },
    ...more,
  };
}

const stopped = report({
  ...{ flooded: ['host3 of switch'], incomplete: ['host2'], mend: 'npm run lab -- up', back: there.slice(0, 1) },
  verdict: { outcome: 'stopped', text: 'it was lost', evidence: ['a counter & "more"'], mend: 'up' },
});

describe('as text', () => {
  it('has a line for each device, what is inside once, and what decided below', () => {
    expect(formatTrace(report()).split('\n')).toEqual([
      'host1/c1 → host2/c1, udp: a ping',
      '',
      'place     device       µs  TTL  bytes  packet',
      'host1/c1   eth0→        0   64     44  ICMP echo request 10.0.0.1 → 10.0.0.2, DF',
      '    route: default via 100.96.1.1 dev eth0',
      'host1     →veth-c1    +12   64     44  ″',
      'host1      eth0→    +1361   64     72  UDP 192.168.65.1:8285 → 192.168.65.2:8285, DF',
      '                                       └ ICMP echo request 10.0.0.1 → 10.0.0.2, DF, TTL 64, 44 bytes',
      '    peer: <host2>',
      '',
      '✓ it arrived',
    ]);
  });

  it('tells copies, captures that are not whole, the way back, the evidence, and what mends it', () => {
    const lines = formatTrace(stopped).split('\n');
    expect(lines).toContain('copies went to host3 of switch: the bridge did not know the address yet');
    expect(lines).toContain('the capture of host2 lost packets: hops may be missing');
    expect(lines).toContain('the way back');
    expect(lines.slice(-3)).toEqual(['✗ it was lost', '  a counter & "more"', '  try: npm run lab -- up']);
    expect(formatTrace(report({ there: [] }))).toContain('  (seen at no device)');
  });

  it('describes packets, and what is in them as far as it can be read', () => {
    expect(formatMicroseconds(9.96)).toBe('10.0');
    expect(formatMicroseconds(10)).toBe('10');
    expect(describePacket(read(ipv4(17, data, { offset: 1480 })))).toMatch(/, fragment at 1480$/);
    expect(describeCarried(read(ping))).toBe('');
    const run = carrying(ping);
    const two = ipv4(17, udp(new Uint8Array([...ping, ...ping]), 8285, 8285));
    expect(describeCarried(read(run))).not.toContain('run');
    expect(describeCarried(read(two))).toMatch(/^└ a run of 2 datagrams in one send, the first: ICMP/);
    const sealed = new Uint8Array(32);
    sealed[0] = 4;
    sealed[8] = 7;
    const message = read(ipv4(17, udp(sealed, 51_820, 51_820)), { kind: 'wireguard', ports: [51_820] });
    expect(describeCarried(message)).toBe('└ sealed, message 7');
  });
});

describe('as a page', () => {
  it('needs nothing else, and escapes what it is told', () => {
    const html = htmlOfTrace(stopped);
    expect(html).not.toMatch(/<script|(?:src|href)="(?!data:)/);
    expect(html).toContain('a counter &#38; &#34;more&#34;');
    expect(html).not.toContain('<host2>');
    expect(escapeHtml('<&">')).toBe('&#60;&#38;&#34;&#62;');
  });

  it('has a picture and a table for each way, with what decided, and marks where it stopped', () => {
    const { document } = parseHTML(htmlOfTrace(stopped));
    const text = (selector: string) => [...document.querySelectorAll(selector)].map((one) => one.textContent);
    expect(text('h2')).toEqual(['The way there', 'The way back']);
    expect(text('svg text.name')).toEqual(['host1/c1', 'host1', 'host1/c1']);
    expect(text('svg text.stop')).toEqual(['stopped here']);
    expect(document.querySelectorAll('tbody tr')).toHaveLength(4);
    expect(text('tbody tr')[2]).toContain('peer: <host2>');
    expect(text('p.bad')).toEqual(['✗ it was lost']);
    expect(text('p code')).toEqual(['npm run lab -- up']);
    // the packet in its box, and the datagram around it
    expect(document.querySelectorAll('svg rect.outer')).toHaveLength(1);
    expect(document.querySelectorAll('svg rect.inner')).toHaveLength(4);
  });

  it('of a packet that arrived has no such mark', () => {
    const { document } = parseHTML(htmlOfTrace(report()));
    expect(document.querySelector('svg text.stop')).toBeNull();
    expect(document.querySelector('p.good')?.textContent).toBe('✓ it arrived');
    expect(document.querySelectorAll('figure')).toHaveLength(1);
  });
});
