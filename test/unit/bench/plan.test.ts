import { describe, expect, it } from 'vitest';
import { contenders } from '../../../bench/contenders/all.js';
import { planRun, suiteIds } from '../../../bench/run.js';
import type { Settings } from '../../../bench/suites/suite.js';

const settings: Settings = {
  quick: false,
  rounds: 5,
  seconds: 1,
  underlays: ['whole', 'segmented'],
  contenders: null,
  measurements: null,
};
const quick: Settings = { ...settings, quick: true, underlays: ['whole'] };

/** Setting contenders up takes about this long; it is not part of the plan. */
const SET_UP_SECONDS = 30;

describe('planRun', () => {
  it('fits a full run into 35 minutes', () => {
    const { seconds, steps } = planRun(suiteIds, settings);
    expect(steps).toBeGreaterThan(500);
    expect(seconds + SET_UP_SECONDS).toBeLessThan(35 * 60);
  });

  it('fits a quick run into 3 minutes', () => {
    const { seconds, steps } = planRun(suiteIds, quick);
    expect(steps).toBeGreaterThan(50);
    expect(seconds + SET_UP_SECONDS).toBeLessThan(3 * 60);
  });

  it('leaves out what was not asked for', () => {
    const all = planRun(['throughput'], settings).steps;
    expect(planRun(['throughput'], { ...settings, measurements: ['tcp-1'] }).steps).toBeLessThan(all);
    expect(planRun(['throughput'], { ...settings, contenders: ['tweed'] }).steps).toBeLessThan(all);
    expect(planRun(['throughput'], { ...settings, contenders: [] }).steps).toBe(0);
    expect(planRun([], settings).steps).toBe(0);
  });

  it('knows every contender by a name of its own', () => {
    const ids = contenders.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    // namespaces are named after it, and a device's name is at most 15 characters long
    for (const id of ids) expect(id).toMatch(/^[a-z][a-z\d-]{1,14}$/);
  });
});
