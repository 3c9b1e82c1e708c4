/** The tour walks every stop on labs of its own; a stop fails when what it tells is not so. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { Lab } from '../../src/lab/lab.js';
import { listNamespaces } from '../../src/lab/namespace.js';
import { patient } from '../../src/lab/patience.js';
import { tourStops } from '../../src/lab/tour/tour.js';
import { exec } from '../support/exec.js';
import { logsOf, uniqueLabName } from './support/lab.js';

const program = fileURLToPath(new URL('../../dist/cli/tweed.cjs', import.meta.url));
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

/** Runs it on a terminal, and types an answer at each prompt for as long as there are some. */
async function typedTour(answers: readonly string[], ...words: string[]) {
  const command = [process.execPath, program, 'lab', '--name', name, 'tour', ...words].join(' ');
  const child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], { stdio: 'pipe' });
  child.stdin.on('error', () => {}); // told by the program's end
  let shown = '';
  let prompts = 0;
  child.stdout.on('data', (chunk) => {
    shown += chunk;
    for (const seen = shown.split('… Enter').length - 1; prompts < seen; prompts++)
      child.stdin.write(answers[prompts] ?? '');
  });
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, shown, prompts };
}

const ENTER = '\n';
const END_OF_INPUT = '\u0004';
const INTERRUPT = '\u0003';

it('waits for Enter on a terminal, and leaves its lab up', { timeout: patient(120_000) }, async () => {
  const kept = await typedTour([ENTER, ENTER, ENTER], 'namespaces', 'veth', '--pause', '--keep');
  expect(kept, kept.shown).toMatchObject({ status: 0, prompts: 3 });
  expect(kept.shown).toContain(`lab ${name} stays up; take it down: npm run lab -- down --name ${name}`);
  const lab = await Lab.find(name);
  expect((await lab.exec('host1/c1', ['ip', 'route'])).stdout).toContain('default via');
  // where input ends it walks on without waiting, and takes down what it found
  const ended = await typedTour([END_OF_INPUT], 'namespaces', '--pause');
  expect(ended, ended.shown).toMatchObject({ status: 0, prompts: 1 });
  await expect(Lab.find(name)).rejects.toMatchObject({ code: 'LAB_NOT_UP' });
});

it('is interrupted at a prompt: it takes its lab down and says so', { timeout: patient(60_000) }, async () => {
  const { status, shown } = await typedTour([INTERRUPT], 'namespaces', '--pause');
  expect(shown).toContain('interrupted; nothing is left of the lab');
  expect(status, shown).not.toBe(0);
  await expect(Lab.find(name)).rejects.toMatchObject({ code: 'LAB_NOT_UP' });
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
