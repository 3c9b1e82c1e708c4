import { mkdtemp, rename, rm } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { askReady } from '../../../src/observe/ask-ready.js';

let directory: string;
const servers: http.Server[] = [];

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'tweed-ready-'));
});
afterEach(async () => {
  for (const server of servers.splice(0)) await new Promise((resolve) => server.close(resolve));
  await rm(directory, { recursive: true, force: true });
});

/** @param status of the answer; null for a socket that a killed daemon left behind */
async function daemon(name: string, status: number | null): Promise<void> {
  const server = http.createServer((_, response) => response.writeHead(status ?? 0).end(`${name} says ${status}\n`));
  const file = path.join(directory, name);
  await new Promise<void>((resolve) => server.listen(file, resolve));
  if (status !== null) {
    servers.push(server);
    return;
  }
  await rename(file, `${file}.kept`); // closing removes the file by its name
  await new Promise((resolve) => server.close(resolve));
  await rename(`${file}.kept`, file);
}

it.each<[string, Readonly<Record<string, number | null>>, boolean, RegExp]>([
  ['the only daemon is ready', { 'tweed.sock': 200 }, true, /200/],
  ['the only daemon is not ready', { 'tweed.sock': 503 }, false, /503/],
  ['no daemon runs', {}, false, /ENOENT.*tweed\.sock/],
  ['a daemon was killed', { 'tweed.sock': null }, false, /ECONNREFUSED.*tweed\.sock/],
  ['the only daemon has another socket', { 'tweed-2.sock': 200 }, true, /tweed-2/],
  [
    'a killed one has left the first socket',
    { 'tweed.sock': null, 'tweed-3.sock': 200 },
    true,
    /^tweed-3\S* says 200\n$/,
  ],
  ['one of two is not ready', { 'tweed.sock': 200, 'tweed-2.sock': 503 }, false, /200\n.*503/],
  ['other files are there', { 'tweed.sock': 200, 'other.sock': 503 }, true, /^tweed\S* says 200\n$/],
])('answers for a run directory where %s', async (_, daemons, ready, text) => {
  for (const [name, status] of Object.entries(daemons)) await daemon(name, status);
  expect(await askReady(directory)).toEqual({ ready, text: expect.stringMatching(text) });
});

it('answers for one socket where it is named', async () => {
  await daemon('tweed.sock', 503);
  await daemon('tweed-2.sock', 200);
  expect(await askReady(path.join(directory, 'tweed-2.sock'))).toMatchObject({ ready: true });
  expect(await askReady(path.join(directory, 'tweed.sock'))).toMatchObject({ ready: false });
});
