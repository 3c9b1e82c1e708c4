import { describe, expect, it } from 'vitest';
import { compareReport, compareResults } from '../../../bench/report/compare.js';
import { rankTest } from '../../../bench/stats/rank-test.js';
import { makeResults, sampleSeries } from './results.js';

const tcp = { suite: 'throughput', measurement: 'tcp-1', underlay: 'whole' };

describe('rankTest', () => {
  it('knows the exact values of small series', () => {
    // tables of U: 5 against 5 without overlap 2/252, 3 against 3 without overlap 2/20
    expect(rankTest([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])).toBeCloseTo(2 / 252, 12);
    expect(rankTest([6, 7, 8, 9, 10], [1, 2, 3, 4, 5])).toBeCloseTo(2 / 252, 12);
    expect(rankTest([1, 2, 3], [4, 5, 6])).toBeCloseTo(0.1, 12);
    // one pair the wrong way round: u = 1, two of 252 orders have u ≤ 1
    expect(rankTest([1, 2, 3, 4, 6], [5, 7, 8, 9, 10])).toBeCloseTo(4 / 252, 12);
  });

  it('sees no difference between a series and itself', () => {
    expect(rankTest([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])).toBe(1);
  });
});

describe('compareResults', () => {
  const run = (tweed: readonly number[], again: readonly number[] = tweed) =>
    makeResults([
      ...sampleSeries({ ...tcp, contender: 'tweed' }, 'gbps', tweed),
      ...sampleSeries({ ...tcp, contender: 'tweed-again' }, 'gbps', again),
    ]);

  it('calls a clear gain better and a clear loss worse', () => {
    const slow = run([4, 4.1, 4.05, 3.95, 4.02]);
    const fast = run([5, 5.1, 5.05, 4.95, 5.02]);
    expect(compareResults(slow, fast).map(({ verdict }) => verdict)).toEqual(['better']);
    expect(compareResults(fast, slow).map(({ verdict }) => verdict)).toEqual(['worse']);
    expect(compareReport(slow, fast)).toContain('1 better, 0 worse');
  });

  it('calls what overlaps noise', () => {
    const one = run([4, 4.5, 4.2, 3.9, 4.1]);
    const other = run([4.2, 4.6, 4.0, 4.1, 4.3]);
    expect(compareResults(one, other).map(({ verdict }) => verdict)).toEqual(['noise']);
  });

  it('takes a difference for noise when a contender differs as much from itself', () => {
    const one = run([4, 4.1, 4.05, 3.95, 4.02], [5, 5.1, 5.05, 4.95, 5.02]);
    const other = run([4.5, 4.6, 4.55, 4.45, 4.52]);
    expect(compareResults(one, other).map(({ verdict }) => verdict)).toEqual(['noise']);
  });

  it('says nothing about too few rounds', () => {
    expect(compareResults(run([4, 4.1]), run([9, 9.1])).map(({ verdict }) => verdict)).toEqual(['too few rounds']);
  });

  it('warns of machines that differ', () => {
    const here = run([4, 4.1, 4.2, 4.3, 4.4]);
    const there = { ...here, machine: { ...here.machine, cpuModel: 'another one' } };
    expect(compareReport(here, there)).toContain('cpuModel differs');
  });

  it('says so when there is nothing to compare', () => {
    expect(compareReport(run([1, 2, 3, 4, 5]), makeResults([]))).toContain('nothing in common');
  });
});
