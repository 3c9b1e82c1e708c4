/** The tour walks every stop on labs of its own; a stop fails when what it tells is not so. */
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { Lab } from '../../src/lab/lab.js';
import { listNamespaces } from '../../src/lab/namespace.js';
import { patient } from '../../src/lab/patience.js';
import { tourStops } from '../../src/lab/tour/tour.js';
import { exec } from '../support/exec.js';
import { logsOf, uniqueLabName } from './support/lab.js';

const program = fileURLToPath(new URL('../../dist/cli/tweed.js', import.meta.url));
const name = uniqueLabName();

const labs = ['', '-vxlan', '-kernel'].map((suffix) => `${name}${suffix}`);

function tour(...words: string[]) {
  return exec([process.execPath, program, 'lab', '--name', name, 'tour', ...words], {
    tolerate: true,
    timeoutMs: patient(400_000),
  });
}

afterAll(async () => {
  for (const lab of labs) await Lab.down(lab);
});

it('every stop tells what is so, and nothing is left of the labs', { timeout: patient(420_000) }, async () => {
  const { stdout, stderr, status } = await tour();
  const logs = status === 0 ? '' : (await Promise.all(labs.map((lab) => logsOf(lab)))).join('\n');
  expect(status, `${stdout}${stderr}${logs}`).toBe(0);
  for (const { title } of tourStops) expect(stdout).toContain(title);
  expect(stdout).toMatch(new RegExp(`${tourStops.length} stops, \\d+ things told, and each was so`));
  const left = (await listNamespaces()).filter((namespace) => labs.some((lab) => namespace.startsWith(`${lab}-`)));
  expect(left).toEqual([]);
});

it('lists its stops, and knows no other ones', async () => {
  const list = await tour('--list');
  expect(
    list.stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[0]),
  ).toEqual(tourStops.map((stop) => stop.name));
  const none = await tour('moon');
  expect(none.stderr).toContain('"moon" is no stop of the tour; there are namespaces');
  expect(none.status).toBe(1);
});
