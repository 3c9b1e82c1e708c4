import { describe, expect, it } from 'vitest';
import { parsePing } from '../../../bench/network/ping.js';
import { escapeHtml } from '../../../bench/report/html/document.js';
import { htmlReport } from '../../../bench/report/html/report.js';
import { noiseChecks } from '../../../bench/report/noise.js';
import { formatTable } from '../../../bench/report/table.js';
import { checkTargets } from '../../../bench/report/targets.js';
import { terminalReport } from '../../../bench/report/terminal.js';
import { warnings } from '../../../bench/report/warnings.js';
import { packetCosts } from '../../../bench/suites/ladder.js';
import { makeResults, sampleSeries } from './results.js';

const tcp = { suite: 'throughput', measurement: 'tcp-1', underlay: 'whole' };
const tweed = sampleSeries({ ...tcp, contender: 'tweed' }, 'gbps', [5, 5.1, 5.2, 4.9, 5]);
const off = sampleSeries({ ...tcp, contender: 'tweed-off' }, 'gbps', [0.5, 0.5, 0.51, 0.49, 0.5]);
const vxlan = sampleSeries({ ...tcp, contender: 'vxlan' }, 'gbps', [12, 12.5, 12.2, 12.1, 12.4]);

describe('targets', () => {
  const titleOf = (part: string) => (target: { title: string }) => target.title.includes(part);

  it('are met or missed by the medians', () => {
    const targets = checkTargets(makeResults([...tweed, ...off, ...vxlan]));
    expect(targets.find(titleOf('tweed ÷ offloads off'))).toMatchObject({ met: true, wanted: '≥ 10' });
    expect(targets.find(titleOf('tweed ÷ kernel VXLAN'))).toMatchObject({ met: false, wanted: '≥ 0.45' });
    expect(targets.find(titleOf('idle RTT'))).toMatchObject({ met: null, measured: 'not measured' });
  });

  it('hold handshakes against a bound, and only what was measured is shown', () => {
    const where = { suite: 'handshakes', measurement: 'flood-520', contender: 'handshakes', underlay: '' };
    const results = makeResults([
      ...sampleSeries(where, 'perSecond', [480, 520, 510]),
      ...sampleSeries(where, 'kept', [70, 75, 90]),
      ...sampleSeries({ ...where, measurement: 'first' }, 'ms', [2, 3, 7]),
    ]);
    const measured = checkTargets(results).filter(({ met }) => met !== null);
    expect(measured.map(({ wanted, met }) => [wanted, met])).toEqual([
      ['≥ 500 a second', true],
      ['≥ 80 %', false],
      ['≤ 5 ms', true],
    ]);
    expect(terminalReport(results)).toMatch(/MISSED/);
    expect(terminalReport(results)).not.toMatch(/not measured/);
  });

  it('count rounds without retransmits', () => {
    const ordered = { ...tcp, measurement: 'tcp-1-ordered', contender: 'tweed' };
    const values = sampleSeries(ordered, 'retransmits', [0, 0, 3, 0, 1]);
    const target = checkTargets(makeResults(values)).find(titleOf('retransmits'));
    expect(target).toMatchObject({ met: true, measured: '0 in 3 of 5 (0, 0, 3, 0, 1)' });
  });
});

describe('warnings', () => {
  it('are silent about a quiet machine and a steady contender', () => {
    const again = sampleSeries({ ...tcp, contender: 'tweed-again' }, 'gbps', [5.1, 5, 5.1, 5, 4.95]);
    const results = makeResults([...tweed, ...again]);
    expect(noiseChecks(results)).toHaveLength(1);
    expect(warnings(results)).toEqual([]);
  });

  it('name everything that makes a run doubtful', () => {
    const again = sampleSeries({ ...tcp, contender: 'tweed-again' }, 'gbps', [6, 6.1, 6.1, 6, 6.2]);
    const results = makeResults([...tweed, ...again]);
    const doubtful = {
      ...results,
      complete: false,
      quietness: { busyBefore: 1.5, loadAverage: [3, 2, 1], stolen: 0.1, others: 0.8 },
    };
    const text = warnings(doubtful).join('\n');
    expect(warnings(doubtful)).toHaveLength(5);
    for (const word of ['interrupted', 'before the first', 'during the run', 'hypervisor', 'differs from itself']) {
      expect(text).toContain(word);
    }
  });

  it('notice an underlay that did not do what it was told', () => {
    const sample = (underlay: string, bytes: number) => ({
      ...tcp,
      underlay,
      contender: 'direct',
      round: 0,
      at: 0,
      values: { underlayBytes: bytes, underlayPackets: 100 },
    });
    expect(warnings(makeResults([sample('whole', 4_000_000), sample('segmented', 150_000)]))).toEqual([]);
    expect(warnings(makeResults([sample('segmented', 4_000_000)])).join()).toContain('underlay');
    expect(warnings(makeResults([sample('whole', 150_000)])).join()).toContain('underlay');
  });
});

describe('reports', () => {
  const results = makeResults([...tweed, ...off, ...vxlan]);

  it('show every contender on the terminal', () => {
    const text = terminalReport(results);
    for (const word of ['5.00 (4.90 – 5.20)', '0.50 (0.49 – 0.51)', '12.20 (12.00 – 12.50)', 'MISSED']) {
      expect(text).toContain(word);
    }
  });

  it('make one HTML file with plots and without anything from elsewhere', () => {
    const html = htmlReport(results, 'run.json');
    expect(html.match(/<figure class="plot">/g)?.length).toBeGreaterThan(0);
    expect(html).toContain('5.00 (4.90 – 5.20)');
    expect(html).not.toMatch(/(?:src|href)="(?!data:,)/);
    expect(html).not.toContain('<script');
    expect(html).not.toContain('@import');
  });

  it('name what did not take part, and why', () => {
    const [first] = results.contenders;
    const missing = { ...first!, id: 'c-loop', title: 'plain C loop', unavailable: 'gcc is not installed' };
    const html = htmlReport({ ...results, contenders: [...results.contenders, missing] }, 'run.json');
    expect(html).toContain('did not take part: gcc is not installed');
  });

  it('escape what came from outside', () => {
    expect(escapeHtml('<b> & "x"')).toBe('&#60;b&#62; &#38; &#34;x&#34;');
  });

  it('survive a run without a single sample', () => {
    expect(terminalReport(makeResults([]))).toContain('Linux');
    expect(htmlReport(makeResults([]), 'run.json')).toContain('</html>');
  });
});

describe('packetCosts', () => {
  it('counts two copies where the kernel does all the work', () => {
    expect(packetCosts({ bytes: 1000 })).toEqual({ copiesPerByte: 2 });
  });

  it('counts six and a little for one packet per call', () => {
    const costs = packetCosts({
      bytes: 1e9,
      deviceBytes: 2.1e9,
      devicePackets: 2e6,
      contextSwitches: 1e5,
      daemonUser: 1,
      daemonSystem: 9,
    });
    expect(costs).toMatchObject({ copiesPerByte: 6.2, wirePackets: 1e6, switchesPerPacket: 0.1 });
    expect(costs).toMatchObject({ userPerGb: 1, systemPerGb: 9 });
  });

  it('believes the daemon’s own counters about what it sent', () => {
    const costs = packetCosts({
      bytes: 1e9,
      deviceBytes: 2e9,
      devicePackets: 1e5,
      'counter:tx_bytes': 1.05e9,
      'counter:rx_bytes': 1.05e9,
      'counter:tx_packets': 7e5,
    });
    expect(costs.copiesPerByte).toBeCloseTo(6.1, 9);
    expect(costs.wirePackets).toBe(7e5);
  });
});

describe('parsers and tables', () => {
  it('read the times of ping', () => {
    const line = (ms: string) => `64 bytes from 100.96.2.2: icmp_seq=1 ttl=62 time=${ms} ms`;
    expect(parsePing([line('0.123'), line('12'), 'Request timeout'].join('\n'))).toEqual([123, 12_000]);
    expect(parsePing('5 packets transmitted, 0 received')).toEqual([]);
  });

  it('line columns up', () => {
    expect(
      formatTable(
        ['name', 'n'],
        [
          ['a', '1'],
          ['bcdef', '100'],
        ],
      ).split('\n'),
    ).toEqual(['name     n', '─────  ───', 'a        1', 'bcdef  100']);
  });
});
