/** Merging as it is wanted, refused, lost, mended and given up; the pair, the program on it and the table are scripted. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { Attachment, Way } from '../../../src/kernel-path/attachment.js';
import { ensureMergePair, merges } from '../../../src/kernel-path/merge-pair.js';
import { Merging, type MergingOptions } from '../../../src/kernel-path/merging.js';
import { FakeLinks } from './support/fake-links.js';

const PORT = 8285;
const into = 'tweed8285-in';
const out = 'tweed8285-out';
const LINE = "the kernel path's device for merging";

/** What happened, in order. */
let events: string[];
let host: FakeLinks;
/** What the next of this fails with; empty: nothing. */
let failures: { ensure: string; hang: string; table: (index: number) => string; isThere: string; query: string };
let way: Way;
/** The program of our own is on the device. */
let hangs: boolean;
/** Programs of other daemons there: links, and a filter in our place. */
let others: { links: number; filter: boolean };
let now: number;
let attachments: number;
beforeEach(() => {
  events = [];
  host = new FakeLinks();
  failures = { ensure: '', hang: '', table: () => '', isThere: '', query: '' };
  way = 'tcx';
  hangs = false;
  others = { links: 0, filter: false };
  now = 1000;
  attachments = 0;
});

const fail = (reason: string) => {
  if (reason !== '') throw new Error(reason);
  return false;
};

function attachment(): Attachment {
  const mine = ++attachments;
  const isThere = async () => {
    fail(failures.isThere);
    const exists = host.links.has(out);
    return exists && ((hangs && mine === attachments) || (way === 'clsact' && others.filter));
  };
  const detach = async () => {
    events.push(`off ${mine}`);
    if (mine === attachments) hangs = false;
  };
  return { way, hold: way === 'tcx' ? { id: mine + 100, descriptor: mine } : null, isThere, detach, letGo: detach };
}

const mergingOf = (changes: Partial<MergingOptions> = {}) =>
  new Merging({
    wanted: true,
    port: PORT,
    queues: 4,
    run: async (argv, tolerate) => {
      if (argv.includes('del')) events.push(argv.join(' '));
      return host.run(argv, tolerate);
    },
    table: {
      setMergeInto: (index) => {
        fail(failures.table(index));
        events.push(`table ${index}`);
      },
    },
    hang: async ({ name, index }) => {
      fail(failures.hang);
      hangs = true;
      events.push(`hang ${name} ${index}`);
      return attachment();
    },
    programsOn: (ifindex) => {
      fail(failures.query);
      events.push(`query ${ifindex}`);
      return others.links + (hangs ? 1 : 0);
    },
    ensure: async (port, queues, run) => {
      events.push(`ensure ${port} with ${queues}`);
      fail(failures.ensure);
      return ensureMergePair(port, queues, run, host.switches);
    },
    merges: (pair) => merges(pair, host.switches),
    now: () => now,
    ...changes,
  });
const BEGINNING = ['table 0', `ensure ${PORT} with 4`, `hang ${out} 12`, 'table 11'];

describe('where it is wanted', () => {
  it('the programs are told of the device when somebody takes packets from it, and not before', async () => {
    const merging = mergingOf();
    expect(merging.status()).toEqual({ into: '', reason: '' });
    expect(await merging.keep()).toEqual([]);
    expect(events).toEqual(BEGINNING);
    expect(merging.status()).toEqual({ into, reason: '' });
  });

  it('nothing is done as long as the program is there', async () => {
    const merging = mergingOf();
    await merging.keep();
    for (let i = 0; i < 3; i++) {
      now += 100_000;
      expect(await merging.keep()).toEqual([]);
    }
    expect(events).toEqual(BEGINNING);
  });

  it.each<[Way, unknown]>([
    ['tcx', [{ id: 101, descriptor: 1 }]],
    ['clsact', [null]],
  ])('what keeps the program there may be held: by %s', async (by, holds) => {
    way = by;
    const merging = mergingOf();
    expect(merging.attachments).toEqual([]);
    await merging.keep();
    expect(merging.attachments.map(({ hold }) => hold)).toEqual(holds);
    await merging.stop();
    expect(merging.attachments).toEqual([]);
  });
});

it('nothing is there where it is not wanted', async () => {
  const merging = mergingOf({ wanted: false });
  expect(await merging.keep()).toEqual([]);
  now += 100_000;
  expect(await merging.keep()).toEqual([]);
  await merging.stop();
  expect(events).toEqual([]);
  expect(host.log).toEqual([]);
  expect(merging.status()).toEqual({ into: '', reason: '' });
});

describe('a failure', () => {
  it.each<[string, () => void]>([
    ['there are no devices', () => (failures.ensure = 'no luck')],
    ['the program is refused', () => (failures.hang = 'no luck')],
    ['the state cannot be written', () => (failures.table = (index) => (index === 0 ? 'no luck' : ''))],
  ])('is told, and it is tried again after a minute and not before: %s', async (_, happen) => {
    happen();
    const merging = mergingOf();
    expect(await merging.keep()).toEqual([]);
    expect(merging.status()).toEqual({ into: '', reason: 'no luck' });
    expect(events).not.toContain('table 11');
    failures = { ...failures, ensure: '', hang: '', table: () => '' };
    events.length = 0;
    now += 59_999;
    expect(await merging.keep()).toEqual([]);
    expect(events).toEqual([]);
    expect(merging.status()).toEqual({ into: '', reason: 'no luck' });
    now += 1;
    // what was never there is not put back
    expect(await merging.keep()).toEqual([]);
    const { ifindex } = host.links.get(into) ?? {};
    expect(events).toEqual([...BEGINNING.slice(0, 2), expect.stringMatching(`hang ${out}`), `table ${ifindex}`]);
    expect(merging.status()).toEqual({ into, reason: '' });
  });

  it('may come again and again, each a minute after the other, with the reason of the last', async () => {
    failures.ensure = 'first';
    const merging = mergingOf();
    await merging.keep();
    failures.ensure = 'second';
    now += 60_000;
    await merging.keep();
    expect(merging.status().reason).toBe('second');
    now += 59_999;
    await merging.keep();
    expect(events).toEqual(['table 0', `ensure ${PORT} with 4`, 'table 0', `ensure ${PORT} with 4`]);
  });

  it('of a device that is not tweed’s names it, and leaves it alone to the end', async () => {
    host.add(into, 'dummy');
    const merging = mergingOf();
    await merging.keep();
    expect(merging.status()).toEqual({ into: '', reason: expect.stringMatching(/not tweed's; remove or rename it$/) });
    await merging.stop();
    expect([...host.links.keys()]).toEqual([into]);
  });

  it('of veth devices that do not merge leaves none behind', async () => {
    host.ignorant = true;
    const merging = mergingOf();
    await merging.keep();
    expect(merging.status()).toEqual({ into: '', reason: 'veth devices of this kernel do not merge' });
    await merging.stop();
    expect(host.links.size).toBe(0);
  });

  it('is nothing that stop would throw about', async () => {
    failures.ensure = 'no luck';
    const merging = mergingOf();
    await merging.keep();
    await merging.stop();
    expect(merging.status().into).toBe('');
  });
});

describe('a failure that leaves more than its reason', () => {
  it('is not taken for merging that is in force: the programs know of no device', async () => {
    failures.table = (index) => (index === 0 ? '' : 'EPERM');
    const merging = mergingOf();
    await merging.keep();
    expect(merging.status()).toEqual({ into: '', reason: 'EPERM' });
  });

  it('to tell the programs of the device is made good a minute later', async () => {
    failures.table = (index) => (index === 0 ? '' : 'EPERM');
    const merging = mergingOf();
    await merging.keep();
    failures.table = () => '';
    now += 60_000;
    await merging.keep();
    expect(events.at(-1)).toBe(`table ${host.links.get(into)?.ifindex}`);
    expect(merging.status()).toEqual({ into, reason: '' });
  });

  it('is forgotten when the program turns out to be there', async () => {
    const merging = mergingOf();
    await merging.keep();
    failures.isThere = 'no descriptor is left';
    await merging.keep();
    failures.isThere = '';
    now += 60_000;
    await merging.keep();
    expect(merging.status()).toEqual({ into, reason: '' });
  });

  it.each<[string, () => void]>([
    ['the program is refused', () => (failures.hang = 'EBUSY')],
    ['a switch cannot be turned', () => (host.answer = () => fail('EPERM'))],
    ['an end cannot be put up', () => (host.fails = [`ip link set ${out} up`])],
  ])('leaves no device behind after the end, where %s', async (_, happen) => {
    happen();
    const merging = mergingOf();
    await merging.keep();
    await merging.stop();
    expect([...host.links.keys()]).toEqual([]);
  });
});

describe('what is lost', () => {
  it.each<[string, () => void, string[]]>([
    ['the program', () => (hangs = false), [`hang ${out} 12`, 'table 11']],
    ['the device', () => host.links.clear(), [`hang ${out} 14`, 'table 13']],
  ])('is mended, nothing being sent there meanwhile: %s', async (_, lose, again) => {
    const merging = mergingOf();
    await merging.keep();
    lose();
    events.length = 0;
    expect(await merging.keep()).toEqual([LINE]);
    expect(events).toEqual(['table 0', 'off 1', `ensure ${PORT} with 4`, ...again]);
    expect(merging.status()).toEqual({ into, reason: '' });
    expect(await merging.keep()).toEqual([]);
    expect(await merging.keep()).toEqual([]);
  });

  it('and cannot be had again is told, not sent into, and there again a minute later', async () => {
    const merging = mergingOf();
    await merging.keep();
    host.links.clear();
    failures.ensure = 'no veth';
    events.length = 0;
    expect(await merging.keep()).toEqual([]);
    expect(events).toEqual(['table 0', 'off 1', `ensure ${PORT} with 4`]);
    expect(merging.status()).toEqual({ into: '', reason: 'no veth' });
    expect(merging.attachments).toEqual([]);
    failures.ensure = '';
    now += 60_000;
    await merging.keep();
    expect(merging.status()).toEqual({ into, reason: '' });
    expect(events.slice(3)).toEqual(['table 0', `ensure ${PORT} with 4`, `hang ${out} 14`, 'table 13']);
  });

  it('is not what an heir’s filter has taken the place of', async () => {
    way = 'clsact';
    const merging = mergingOf();
    await merging.keep();
    hangs = false;
    others.filter = true;
    expect(await merging.keep()).toEqual([]);
    expect(events).toEqual(BEGINNING);
  });

  it('is what cannot be asked, too: nothing is sent there until it is made anew', async () => {
    const merging = mergingOf();
    await merging.keep();
    failures.isThere = 'no descriptor is left';
    events.length = 0;
    expect(await merging.keep()).toEqual([LINE]);
    expect(events).toEqual(['table 0', 'off 1', ...BEGINNING.slice(1)]);
    expect(merging.status()).toEqual({ into, reason: '' });
  });
});

describe('stop', () => {
  it.each<Way>(['tcx', 'clsact'])('takes the program off, then removes the pair: by %s', async (by) => {
    way = by;
    const merging = mergingOf();
    await merging.keep();
    events.length = 0;
    await merging.stop();
    expect(events.filter((event) => !event.startsWith('query'))).toEqual(['off 1', `ip link del ${into}`]);
    expect(host.links.size).toBe(0);
    expect(merging.status().into).toBe('');
  });

  it('asks what hangs on the end where packets come out, after its own has gone', async () => {
    const merging = mergingOf();
    await merging.keep();
    events.length = 0;
    await merging.stop();
    expect(events).toEqual(['off 1', 'query 12', `ip link del ${into}`]);
  });

  it.each<[string, Way, () => void]>([
    ['a link', 'tcx', () => (others.links = 1)],
    ['links of two', 'tcx', () => (others.links = 2)],
    ['a filter', 'clsact', () => (others.filter = true)],
  ])('leaves the pair where another daemon’s program hangs by %s', async (_, by, hang) => {
    way = by;
    const merging = mergingOf();
    await merging.keep();
    hang();
    events.length = 0;
    await merging.stop();
    expect(events.filter((event) => !event.startsWith('query'))).toEqual(['off 1']);
    expect([...host.links.keys()]).toEqual([into, out]);
  });

  it('leaves it to the last of two, whichever goes first', async () => {
    const first = mergingOf({ programsOn: () => 1 });
    await first.keep();
    const second = mergingOf({ programsOn: () => 0 });
    await second.keep();
    await first.stop();
    expect(host.links.size).toBe(2);
    await second.stop();
    expect(host.links.size).toBe(0);
  });

  it('may be called twice', async () => {
    const merging = mergingOf();
    await merging.keep();
    await Promise.all([merging.stop(), merging.stop()]);
    await merging.stop();
    expect(events.filter((event) => event.startsWith('off'))).toEqual(['off 1']);
    expect(events.filter((event) => event.startsWith('ip link del'))).toHaveLength(1);
  });

  it('has nothing to do where nothing was begun', async () => {
    await mergingOf().stop();
    expect(events).toEqual([]);
  });

  it('does without the device where somebody has removed it before', async () => {
    const merging = mergingOf();
    await merging.keep();
    host.links.clear();
    await expect(merging.stop()).resolves.toBeUndefined();
  });

  it('takes it for the only one where it cannot be found out what else hangs there', async () => {
    const merging = mergingOf();
    await merging.keep();
    failures.query = 'EPERM';
    await merging.stop();
    expect(hangs).toBe(false);
    expect(host.links.size).toBe(0);
  });
});
