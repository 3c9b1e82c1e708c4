import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { htmlReport } from '../../bench/report/html/report.js';
import { isInstalled } from '../../src/lab/tools.js';
import { simulatedResults } from '../support/bench-results.js';
import { Browser } from './support/browser.js';

const PHONE = { width: 390, height: 844, deviceScaleFactor: 2, mobile: true };
const DESKTOP = { width: 1280, height: 900, deviceScaleFactor: 1, mobile: false };

interface PlotSeen {
  readonly label: string;
  readonly width: number;
  readonly height: number;
  readonly shapes: number;
  readonly letterHeight: number;
}

/** What the page shows of its plots. Only what has a place on the page counts. */
const LOOK = `[...document.querySelectorAll('figure.plot svg[aria-label]')].map((svg) => {
  const box = svg.getBoundingClientRect();
  const drawn = [...svg.querySelectorAll('rect, circle, path, line')].filter((shape) => {
    const { width, height } = shape.getBoundingClientRect();
    return width + height > 0;
  });
  const letters = [...svg.querySelectorAll('text')].map((text) => text.getBoundingClientRect().height).filter((height) => height > 0);
  return {
    label: svg.getAttribute('aria-label'),
    width: box.width,
    height: box.height,
    shapes: drawn.length,
    letterHeight: Math.min(...letters),
  };
})`;

describe.skipIf(!(await isInstalled('chromium')))('the report in a browser', () => {
  let browser: Browser;
  let folder: string;
  let url: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tweed-bench-report-'));
    const file = join(folder, 'report.html');
    await writeFile(file, htmlReport(simulatedResults(), 'simulated.json'));
    url = pathToFileURL(file).href;
    browser = await Browser.start();
  });

  afterAll(async () => {
    await browser?.close();
    await rm(folder, { recursive: true, force: true });
  });

  const openOn = async (screen: object) => {
    await browser.send('Emulation.setDeviceMetricsOverride', { ...screen });
    await browser.open(url);
    return browser.evaluate<PlotSeen[]>(LOOK);
  };

  it('shows all plots, drawn and labelled', async () => {
    const plots = await openOn(DESKTOP);
    const labels = plots.map(({ label }) => label).join('\n');
    for (const part of [
      'Nanoseconds that a packet spends',
      'against the length',
      'share of',
      'hosts',
      'leases',
      'rate of',
    ]) {
      expect(labels).toContain(part);
    }
    expect(plots.length).toBeGreaterThanOrEqual(14);
    for (const plot of plots) {
      expect(plot, plot.label).toMatchObject({ width: expect.any(Number) });
      expect(plot.width, plot.label).toBeGreaterThan(400);
      expect(plot.height, plot.label).toBeGreaterThan(80);
      expect(plot.shapes, plot.label).toBeGreaterThan(5);
      expect(plot.letterHeight, plot.label).toBeGreaterThan(10);
    }
  });

  it('fits on a phone, with letters that can be read', async () => {
    const plots = await openOn(PHONE);
    expect(await browser.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(PHONE.width);
    // what is wider scrolls within its own frame
    const frames = await browser.evaluate<number[]>(
      `[...document.querySelectorAll('figure.plot, .wide, .way')].map((frame) => frame.getBoundingClientRect().right)`,
    );
    expect(Math.max(...frames)).toBeLessThanOrEqual(PHONE.width);
    for (const plot of plots) expect(plot.letterHeight, plot.label).toBeGreaterThan(10);
  });

  it.each([
    ['a desktop', DESKTOP],
    ['a phone', PHONE],
  ])('shows the way of a packet and every verdict on %s without scrolling sideways', async (_, screen) => {
    await openOn(screen);
    const seen = await browser.evaluate<{
      ways: number[];
      steps: number;
      boundaries: number;
      bars: number;
      verdicts: number[];
    }>(`({
      ways: [...document.querySelectorAll('.way')].map((way) => way.getBoundingClientRect().right),
      steps: document.querySelectorAll('.way li.step').length,
      boundaries: document.querySelectorAll('.way li.kernel').length,
      bars: [...document.querySelectorAll('.way .bar i[title]')].filter((piece) => piece.getBoundingClientRect().width > 0).length,
      verdicts: [...document.querySelectorAll('table.targets td:first-child')].map((cell) => cell.getBoundingClientRect().right),
    })`);
    expect([seen.ways.length, seen.steps, seen.boundaries]).toEqual([2, 16, 6]);
    expect(seen.bars).toBeGreaterThan(40);
    expect(seen.verdicts.length).toBeGreaterThan(5);
    expect(Math.max(...seen.ways, ...seen.verdicts)).toBeLessThanOrEqual(screen.width);
  });

  it('is dark where its reader wants that, with letters that stand out', async () => {
    for (const [scheme, isDark] of [
      ['dark', true],
      ['light', false],
    ] as const) {
      await browser.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
      await openOn(DESKTOP);
      const brightness = await browser.evaluate<
        number[]
      >(`['body', 'thead th', '.facts li', '.way li.user', '.way li.kernel', 'figure.plot svg'].flatMap((what) => {
        const style = getComputedStyle(document.querySelector(what));
        const mean = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
        return [/, 0\\)$/.test(style.backgroundColor) ? null : mean(style.backgroundColor), mean(style.color)];
      })`);
      for (let at = 0; at < brightness.length; at += 2) {
        const [ground = null, letters = 0] = [brightness[at] ?? null, brightness[at + 1]];
        expect(letters > 128).toBe(isDark);
        if (ground !== null) expect(Math.abs(ground - letters)).toBeGreaterThan(110);
      }
    }
    await browser.send('Emulation.setEmulatedMedia', { features: [] });
  });

  it('tells more of what is pointed at', async () => {
    await openOn(DESKTOP);
    const titles = await browser.evaluate<string[]>(
      `[...document.querySelectorAll('figure.plot svg[aria-label] title, .bar i[title]')].map((one) => one.textContent || one.title)`,
    );
    expect(titles.length).toBeGreaterThan(100);
    expect(titles.filter((title) => !/\d/.test(title))).toEqual([]);
  });

  it('prints', async () => {
    const { data } = await browser.send('Page.printToPDF', { printBackground: true });
    expect(
      Buffer.from(data as string, 'base64')
        .subarray(0, 5)
        .toString(),
    ).toBe('%PDF-');
  });

  it('asks for nothing else, and nothing is wrong with it', () => {
    const requests = browser.events('Network.requestWillBeSent') as unknown as { request: { url: string } }[];
    expect(new Set(requests.map(({ request }) => request.url).filter((asked) => !asked.startsWith('data:')))).toEqual(
      new Set([url]),
    );
    expect(browser.events('Log.entryAdded')).toEqual([]);
    expect(browser.events('Runtime.consoleAPICalled')).toEqual([]);
    expect(browser.events('Runtime.exceptionThrown')).toEqual([]);
  });
});
