import { mkdir, mkdtemp, readdir, rm, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import {
  type Generation,
  readGeneration,
  readGenerations,
  writeGeneration,
} from '../../../src/subnet/directory/generations.js';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tweed-generations-'));
});

afterEach(() => rm(directory, { recursive: true }));

/** As after a minute: nothing old is kept, and nobody can count on it. */
const writeLater = (name: string, before: Generation | null, text: string | null) =>
  writeGeneration(directory, name, before, text, 0);
const present = async (name = 'value') => (await readGenerations(directory)).get(name) ?? null;

it('counts up, and remembers a deletion', async () => {
  const first = await writeGeneration(directory, 'value', null, 'a');
  expect(first).toMatchObject({ name: 'value', number: 1, text: 'a' });
  const second = await writeGeneration(directory, 'value', first, 'b');
  const third = await writeGeneration(directory, 'value', second, null);
  expect(await present()).toMatchObject({ name: 'value', number: 3, text: null });
  expect(await writeGeneration(directory, 'value', third, 'c')).toMatchObject({ name: 'value', number: 4, text: 'c' });
});

it('keeps what was replaced a moment ago, and one file in the end', async () => {
  const first = await writeGeneration(directory, 'value', null, 'a');
  const second = await writeGeneration(directory, 'value', first, 'b');
  expect((await readdir(directory)).sort()).toEqual(['value@1', 'value@2']);
  await writeLater('value', second, 'c');
  expect(await readdir(directory)).toEqual(['value@3']);
});

it('lets a writer lose who knows an outdated generation', async () => {
  const first = await writeGeneration(directory, 'value', null, 'a');
  const second = await writeGeneration(directory, 'value', first, 'b');
  await writeGeneration(directory, 'value', second, 'c');
  for (const outdated of [null, first, second]) {
    expect(await writeGeneration(directory, 'value', outdated, 'x')).toBeNull();
  }
  expect(await present()).toMatchObject({ name: 'value', number: 3, text: 'c' });
});

it('lets a writer lose who knows an outdated generation that has no file any more, however old', async () => {
  const first = await writeLater('value', null, 'a');
  const second = await writeLater('value', first, 'b');
  await writeLater('value', second, 'c');
  expect(await writeLater('value', null, 'x')).toBeNull(); // number 1 is free again, and still too late
  expect(await writeLater('value', first, 'x')).toBeNull();
  expect(await writeLater('value', second, 'x')).toBeNull();
  expect(await present()).toMatchObject({ name: 'value', number: 3, text: 'c' });
  expect(await readdir(directory)).toEqual(['value@3']);
});

it('lets a writer win on whose generation others have built before it looks again', async () => {
  const first = await writeGeneration(directory, 'value', null, 'a');
  // The others are faster than the writer's look at the directory: they know its file before it does.
  await writeFile(join(directory, 'value@3'), 'c');
  await writeFile(join(directory, 'value@4'), 'd');
  expect(await writeGeneration(directory, 'value', first, 'b')).toMatchObject({ number: 2, text: 'b' });
  expect(await present()).toMatchObject({ number: 4, text: 'd' });
});

it('counts every increment of many writers', async () => {
  const writers = 8;
  const increments = 4;
  await writeGeneration(directory, 'value', null, '0');
  const increment = async () => {
    for (;;) {
      const before = await present();
      if (before === null) throw new Error('the value vanished');
      if ((await writeGeneration(directory, 'value', before, String(Number(before.text) + 1))) !== null) return;
    }
  };
  await Promise.all(
    Array.from({ length: writers }, async () => {
      for (let i = 0; i < increments; i++) await increment();
    }),
  );
  expect(Number((await present())?.text)).toBe(writers * increments);
});

it('sees every value all the time while others are rewritten', async () => {
  const names = Array.from({ length: 10 }, (_, i) => `value${i}`);
  for (const name of names) await writeGeneration(directory, name, null, 'x');
  let busy = true;
  const rewriting = (async () => {
    for (let i = 0; i < 5; i++) {
      for (const name of names) await writeGeneration(directory, name, await present(name), String(i));
    }
    busy = false;
  })();
  while (busy) expect((await readGenerations(directory)).size).toBe(names.length);
  await rewriting;
});

it('takes a file without a number for the first generation, and notices one deleted by hand', async () => {
  await writeFile(join(directory, 'value'), 'by hand');
  const first = await present();
  expect(first).toMatchObject({ name: 'value', number: 0, text: 'by hand' });
  await writeGeneration(directory, 'value', first, 'by us');
  expect(await readdir(directory)).toEqual(['value@1']);
  await unlink(join(directory, 'value@1'));
  expect(await present()).toBeNull();
});

it('takes a file without a number for the present text while it is the youngest', async () => {
  const second = await writeGeneration(directory, 'value', await writeGeneration(directory, 'value', null, 'a'), 'b');
  await writeFile(join(directory, 'value'), 'left behind by a crash');
  const written = new Date('2020-01-01');
  await utimes(join(directory, 'value'), written, written);
  expect(await present()).toMatchObject({ name: 'value', number: 2, text: 'b' });
  expect(second?.number).toBe(2);
  await writeFile(join(directory, 'value'), 'by hand');
  const later = new Date(Date.now() + 1_000);
  await utimes(join(directory, 'value'), later, later);
  const byHand = await present();
  expect(byHand).toMatchObject({ name: 'value', number: 2, text: 'by hand' });
  expect(await readGeneration(directory, 'value')).toMatchObject({ number: 2, text: 'by hand' });
  expect(await writeGeneration(directory, 'value', byHand, 'c')).toMatchObject({ number: 3 });
  expect((await readdir(directory)).sort()).toEqual(['value@1', 'value@2', 'value@3']);
});

it('reads one value, whatever else is there', async () => {
  await mkdir(join(directory, 'folder'));
  expect(await readGeneration(directory, 'value')).toBeNull();
  await writeGeneration(directory, 'value', null, 'a');
  expect(await readGeneration(directory, 'value')).toMatchObject({ name: 'value', number: 1, text: 'a' });
});

it('passes over temporary files', async () => {
  await writeFile(join(directory, '.tmp-1-abc'), 'half');
  expect((await readGenerations(directory)).size).toBe(0);
});
