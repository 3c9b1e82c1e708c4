import { beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/base/clock.js';
import type { Logger } from '../../../src/base/log.js';
import { Standing } from '../../../src/base/standing.js';

type Line = [level: string, message: string, fields: object];

let lines: Line[];
let now: number;
let standing: Standing;

/** What was said since the last call. */
const said = () => lines.splice(0);
const messages = () => said().map(([, message]) => message);
const pass = (seconds: number) => {
  now += seconds * 1000;
};
const fail = (reason: string) => () => Promise.reject(new Error(reason));
const succeed = () => Promise.resolve();

beforeEach(() => {
  lines = [];
  now = 5_000_000;
  const keep = (level: string) => (fields: object | string, message?: string) =>
    void lines.push(typeof fields === 'string' ? [level, fields, {}] : [level, message ?? '', fields]);
  const log = { warn: keep('warn'), info: keep('info') } as unknown as Logger;
  standing = new Standing(log, { ...systemClock, monotonic: () => now });
});

describe('what is tried again and again', () => {
  it('has neither failed nor begun to work when it was broken off', async () => {
    await standing.attempt('mending', fail('no'));
    said();
    expect(await standing.attempt('mending', fail('aborted'), AbortSignal.abort())).toBe(false);
    expect(said()).toEqual([]);
  });

  it('is complained of once, and praised once', async () => {
    expect(await standing.attempt('mending', fail('no'))).toBe(false);
    pass(5);
    expect(await standing.attempt('mending', fail('no'))).toBe(false);
    pass(5);
    expect(await standing.attempt('mending', succeed)).toBe(true);
    expect(await standing.attempt('mending', succeed)).toBe(true);
    expect(said()).toEqual([
      ['warn', 'mending: no (will be tried again)', {}],
      ['info', 'mending: works again', { afterSeconds: 10 }],
    ]);
  });

  it('is complained of anew after it worked, and apart from other things', async () => {
    await standing.attempt('a', fail('no'));
    await standing.attempt('b', fail('no'));
    await standing.attempt('a', succeed);
    await standing.attempt('a', fail('no'));
    expect(messages()).toHaveLength(4);
  });

  it('that is not tried again is not said to be', async () => {
    expect(await standing.once('stopping', fail('no'))).toBe(false);
    expect(await standing.once('stopping', succeed)).toBe(true);
    expect(said()).toEqual([['warn', 'stopping: no', {}]]);
  });
});

describe('a problem that lasts', () => {
  it('is written with each reason that is new, and at its end', () => {
    standing.problem('refused', 'cannot', { key: 'k' });
    standing.problem('timeout', 'cannot');
    standing.problem('refused', 'cannot');
    pass(7);
    standing.solved('can');
    standing.solved('can');
    expect(said()).toEqual([
      ['warn', 'cannot', { key: 'k', reason: 'refused' }],
      ['warn', 'cannot', { reason: 'timeout' }],
      ['info', 'can', { afterSeconds: 7 }],
    ]);
  });

  it('is remembered after one minute, two, four, and at last once an hour', () => {
    const reminders: number[] = [];
    standing.problem('refused', 'cannot');
    for (let minute = 1; minute <= 300; minute++) {
      pass(60);
      said();
      standing.problem('refused', 'cannot');
      if (said().some(([, message]) => message === 'still: cannot')) reminders.push(minute);
    }
    expect(reminders).toEqual([1, 3, 7, 15, 31, 63, 123, 183, 243]);
  });

  it('says for how long', () => {
    standing.problem('refused', 'cannot');
    pass(61);
    standing.problem('refused', 'cannot');
    expect(said()[1]).toEqual(['warn', 'still: cannot', { reason: 'refused', forSeconds: 61 }]);
  });

  it('with another number in its reason each time is remembered within bounds', () => {
    for (let port = 0; port < 40; port++) standing.problem(`port ${port}`, 'cannot');
    expect(said()).toHaveLength(40);
    standing.problem('port 39', 'cannot'); // one of the latest
    standing.problem('port 0', 'cannot'); // forgotten
    expect(said()).toHaveLength(1);
  });
});

describe('all that is wrong now', () => {
  const update = (current: Record<string, string>) => standing.update(new Map(Object.entries(current)), 'subnet');

  it('is said once, again when it changes, when it is over, and when it comes back', () => {
    update({ a: 'bad' });
    update({ a: 'bad', b: 'bad' });
    update({ a: 'worse' });
    update({});
    update({});
    update({ a: 'worse' });
    expect(said()).toEqual([
      ['warn', 'bad', { subnet: 'a' }],
      ['warn', 'bad', { subnet: 'b' }],
      ['info', 'no longer: bad', { subnet: 'b', afterSeconds: 0 }],
      ['warn', 'worse', { subnet: 'a' }],
      ['info', 'no longer: worse', { subnet: 'a', afterSeconds: 0 }],
      ['warn', 'worse', { subnet: 'a' }],
    ]);
  });

  it('shares a line where thousands have one trouble, also in reminders and at the end', () => {
    const many = Object.fromEntries(Array.from({ length: 20_000 }, (_, index) => [`peer ${index}`, 'bad']));
    const shared = { subnets: expect.arrayContaining(['peer 0', 'peer 9']), count: 20_000 };
    update(many);
    update(many);
    pass(60);
    update({ ...many, other: 'bad' });
    update({});
    expect(said()).toEqual([
      ['warn', 'bad', shared],
      ['warn', 'bad', { subnet: 'other' }],
      ['warn', 'still: bad', { ...shared, forSeconds: 60 }],
      ['info', 'no longer: bad', { ...shared, count: 20_001, afterSeconds: 60 }],
    ]);
  });

  it('names ten of those that share a line', () => {
    update(Object.fromEntries(Array.from({ length: 11 }, (_, index) => [`${index}`, 'bad'])));
    expect(said()).toEqual([['warn', 'bad', { subnets: expect.objectContaining({ length: 10 }), count: 11 }]]);
  });
});
