import { describe, expect, it } from 'vitest';
import { formatSeconds, type Progress, secondsLeft } from '../../../bench/harness/progress.js';
import { inTurn, plannedSteps, type RoundsPlan, runRounds } from '../../../bench/harness/rounds.js';

const quiet: Progress = { begin() {}, step() {}, round() {}, done() {}, note() {}, end() {} };

function plan(log: string[], change: Partial<RoundsPlan<string>> = {}): RoundsPlan<string> {
  const measurement = (id: string) => ({
    id,
    title: id,
    seconds: 1.5,
    run: async (place: string) => {
      log.push(`${id} ${place}`);
      return { value: log.length, broken: Number.NaN };
    },
  });
  return {
    suite: 'suite',
    underlay: 'whole',
    rounds: 3,
    contenders: ['a', 'b', 'c'],
    measurements: [measurement('x'), measurement('y')],
    ...change,
  };
}

const places = new Map(['a', 'b', 'c'].map((id) => [id, id]));

async function run(settings: Partial<RoundsPlan<string>> = {}, signal = new AbortController().signal) {
  const log: string[] = [];
  const result = await runRounds(plan(log, settings), places, { progress: quiet, signal, now: () => 0 });
  return { log, ...result };
}

describe('runRounds', () => {
  it('takes every contender in turn before the next measurement', async () => {
    const { log, samples } = await run();
    expect(log).toHaveLength(18);
    for (let i = 0; i < log.length; i += 3) {
      const group = log.slice(i, i + 3);
      expect(new Set(group.map((entry) => entry.split(' ')[0])).size).toBe(1);
      expect(group.map((entry) => entry.split(' ')[1]).sort()).toEqual(['a', 'b', 'c']);
    }
    expect(samples.map(({ round }) => round)).toEqual([...Array(6).fill(0), ...Array(6).fill(1), ...Array(6).fill(2)]);
  });

  it('keeps no value that is no number', async () => {
    const { samples } = await run();
    for (const { values } of samples) expect(Object.keys(values)).toEqual(['value']);
  });

  it('measures a contender twice for the noise check, where it is asked to', async () => {
    const { samples } = await run({ twice: { contender: 'b', measurements: ['y'] } });
    const again = samples.filter(({ contender }) => contender === 'b-again');
    expect(again).toHaveLength(3);
    expect(again.every(({ measurement }) => measurement === 'y')).toBe(true);
  });

  it('leaves out what has no place, and what is skipped', async () => {
    const { samples } = await run({
      contenders: ['a', 'nobody', 'c'],
      skip: (measurement, contender) => measurement === 'x' && contender === 'c',
    });
    expect(new Set(samples.map(({ measurement, contender }) => `${measurement} ${contender}`))).toEqual(
      new Set(['x a', 'y a', 'y c']),
    );
  });

  it('keeps finished rounds, and only those, when it is interrupted', async () => {
    const abort = new AbortController();
    let calls = 0;
    const { samples } = await run(
      {
        measurements: [
          {
            id: 'x',
            title: 'x',
            seconds: 1,
            run: async () => {
              if (++calls === 5) abort.abort();
              return { value: calls };
            },
          },
        ],
      },
      abort.signal,
    );
    expect(calls).toBe(5);
    expect(samples.map(({ round }) => round)).toEqual([0, 0, 0]);
  });

  it('goes on after a failure and reports it', async () => {
    const { samples, failures } = await run({
      rounds: 1,
      measurements: [
        {
          id: 'x',
          title: 'x',
          seconds: 1,
          run: async (place) => {
            if (place === 'b') throw new Error('no answer');
            return { value: 1 };
          },
        },
      ],
    });
    expect(samples.map(({ contender }) => contender).sort()).toEqual(['a', 'c']);
    expect(failures).toMatchObject([{ contender: 'b', message: 'no answer', round: 0 }]);
  });

  it('plans what it does', () => {
    const log: string[] = [];
    expect(plannedSteps(plan(log))).toEqual({ steps: 18, seconds: 27 });
    expect(plannedSteps(plan(log, { twice: { contender: 'a', measurements: ['x'] } })).steps).toBe(21);
  });
});

describe('inTurn', () => {
  it('puts everybody first equally often', () => {
    const entries = ['a', 'b', 'c', 'd'];
    const firsts = new Map<string, number>();
    for (let round = 0; round < 8; round++) {
      const order = inTurn(entries, round, 0);
      expect([...order].sort()).toEqual(entries);
      firsts.set(order[0] as string, (firsts.get(order[0] as string) ?? 0) + 1);
    }
    expect([...firsts.values()]).toEqual([2, 2, 2, 2]);
  });

  it('has nothing to say about nobody', () => {
    expect(inTurn([], 3, 1)).toEqual([]);
  });
});

describe('progress', () => {
  it('learns from how long the finished part took', () => {
    expect(secondsLeft(100, 0, 0)).toBe(100);
    expect(secondsLeft(100, 50, 100)).toBe(100);
    expect(secondsLeft(100, 100, 130)).toBe(0);
  });

  it('writes minutes and seconds', () => {
    expect(formatSeconds(0)).toBe('0:00');
    expect(formatSeconds(65.4)).toBe('1:05');
    expect(formatSeconds(3600)).toBe('60:00');
  });
});
