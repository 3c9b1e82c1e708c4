import { describe, expect, it } from 'vitest';
import { Stopwatch } from '../../../bench/crossings/stopwatch.js';
import type { Sample } from '../../../bench/harness/results.js';
import {
  answer,
  breakDown,
  components,
  fitCopy,
  fitCrossings,
  perWirePacket,
  predictedDaemonCost,
  totalOf,
  way,
  wirePackets,
} from '../../../bench/report/crossings.js';
import { findings } from '../../../bench/report/findings.js';
import { makeResults } from './results.js';

const KOFFI = 50;
const ENTRY = 400;

/** A machine on which every cost is known: the analysis has to find it again. */
function sample(contender: 'single' | 'super', length: number, round: number): Sample {
  const copy = 0.1 * length;
  const values: Record<string, number> = {};
  for (const { part, kind } of way) {
    const set = (variant: string, wall: number, cpu = wall) => {
      values[`${part}.${variant}.wall`] = wall;
      values[`${part}.${variant}.cpu`] = cpu;
    };
    if (kind === 'work') {
      set('full', 100 + 0.05 * length);
      continue;
    }
    const own = KOFFI + ENTRY + 300 + copy;
    set('empty', KOFFI + ENTRY);
    set('full', kind === 'write' ? own + 2000 : own);
    if (kind === 'write') set('dropped', own);
    if (kind === 'read') {
      set('plain', own + 7);
      set('short', own + 7 - copy);
    }
  }
  return { suite: 'crossings', measurement: `warm-${length}`, contender, underlay: '', round, at: 0, values };
}

const baseline = (round: number): Sample => ({
  suite: 'crossings',
  measurement: 'warm-64',
  contender: 'baseline',
  underlay: '',
  round,
  at: 0,
  values: { 'nothing.wall': KOFFI, 'getppid.wall': KOFFI + 150 },
});

const results = makeResults(
  [0, 1, 2].flatMap((round) => [
    ...[64, 512, 1472].map((length) => sample('single', length, round)),
    ...[1472, 16_384, 63_488].map((length) => sample('super', length, round)),
    baseline(round),
  ]),
);

describe('crossings', () => {
  it('counts the packets on the wire', () => {
    expect(wirePackets(64)).toBe(1);
    expect(wirePackets(1472)).toBe(1);
    expect(wirePackets(1473)).toBe(2);
    expect(wirePackets(28 + 44 * 1444)).toBe(44);
  });

  it('finds the fixed and the variable cost of every crossing', () => {
    const fits = fitCrossings(results, 'single');
    expect(fits.map(({ part }) => part)).toEqual(way.filter(({ kind }) => kind !== 'work').map(({ part }) => part));
    for (const { part, wall, wallOverCpu } of fits) {
      const kind = way.find((step) => step.part === part)?.kind;
      expect(wall.slope.value).toBeCloseTo(0.1, 9);
      expect(wall.intercept.value).toBeCloseTo(KOFFI + ENTRY + 300 + (kind === 'write' ? 2000 : 0), 6);
      expect(wallOverCpu).toBe(1);
    }
    expect(fitCopy(results, 'super')?.slope.value).toBeCloseTo(0.1, 9);
  });

  it('takes a call apart, and the parts add up', () => {
    const parts = breakDown(results, 'single', 'warm', 1472);
    expect(parts).toHaveLength(8);
    for (const { part, total, components: found } of parts) {
      expect(totalOf(found)).toBeCloseTo(total, 9);
      for (const component of components) expect(found[component]).toBeGreaterThanOrEqual(0);
      const kind = way.find((step) => step.part === part)?.kind;
      if (kind === 'work') {
        expect(found.daemon).toBe(total);
        continue;
      }
      expect(found).toMatchObject({ koffi: KOFFI, entry: ENTRY });
      expect(found.copy).toBeCloseTo(147.2, 9);
      expect(found.stack).toBeCloseTo(300, 9);
      expect(found.onward).toBeCloseTo(kind === 'write' ? 2000 : 0, 9);
    }
  });

  it('shares a super-packet’s cost among the packets on the wire', () => {
    const whole = breakDown(results, 'super', 'warm', 63_488);
    const shared = perWirePacket(whole, 63_488);
    whole.forEach((part, i) => {
      expect((shared[i]?.total ?? 0) * wirePackets(63_488)).toBeCloseTo(part.total, 6);
    });
  });

  it('lets noise never make a part negative', () => {
    const noisy = makeResults(
      results.samples.map((one) => ({
        ...one,
        values: Object.fromEntries(
          Object.entries(one.values).map(([name, value]) => [name, name.includes('short') ? value + 900 : value]),
        ),
      })),
    );
    for (const { total, components: found } of breakDown(noisy, 'single', 'warm', 1472)) {
      for (const component of components) expect(found[component]).toBeGreaterThanOrEqual(0);
      expect(totalOf(found)).toBeCloseTo(total, 9);
    }
  });

  it('answers in figures and in words', () => {
    const found = answer(results);
    expect(found?.systemCall).toBe(150);
    expect(totalOf(found?.single ?? breakDown(results, 'single', 'warm', 64)[0]!.components)).toBeCloseTo(
      6 * (KOFFI + ENTRY + 300 + 147.2) + 3 * 2000 + 2 * (100 + 73.6),
      6,
    );
    expect(findings(results).join(' ')).toContain('44 packets on the wire');
  });

  it('predicts what the daemons take: everything but the applications’ two crossings', () => {
    expect(predictedDaemonCost(results, 'single', 1472)).toBeCloseTo(
      4 * (KOFFI + ENTRY + 300 + 147.2) + 2 * 2000 + 2 * (100 + 73.6),
      6,
    );
    expect(predictedDaemonCost(makeResults([]), 'single', 1472)).toBeNull();
  });

  it('says nothing without samples', () => {
    const nothing = makeResults([]);
    expect(answer(nothing)).toBeNull();
    expect(findings(nothing)).toEqual([]);
    expect(fitCrossings(nothing, 'super')).toEqual([]);
    expect(breakDown(nothing, 'super', 'cold', 1472)).toEqual([]);
  });
});

describe('Stopwatch', () => {
  it('tells median, mean and count, and begins anew', () => {
    const watch = new Stopwatch();
    for (const time of [1, 2, 3, 100]) watch.add(time);
    expect(watch.read()).toEqual({ median: 2.5, mean: 26.5, count: 4 });
    watch.reset();
    expect(watch.count).toBe(0);
    expect(watch.read().count).toBe(0);
  });
});
