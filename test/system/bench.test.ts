import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Results } from '../../bench/harness/results.js';
import { SCHEMA } from '../../bench/harness/results.js';
import { exec } from '../../src/base/exec.js';
import { listNamespaces } from '../../src/lab/namespace.js';
import { patient } from '../../src/lab/patience.js';

const project = fileURLToPath(new URL('../../', import.meta.url));
const tool = join(project, 'scripts/bench.mjs');
const main = join(project, 'dist-bench/bench/main.js');

let folder: string;

interface Run {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly status: Promise<number | null>;
}

function bench(...args: string[]): Run {
  const child = spawn(process.execPath, [main, ...args, '--output', folder], { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      text += `${line}\n`;
    });
  }
  const status = new Promise<number | null>((resolve) => child.once('close', resolve));
  return { child, output: () => text, status };
}

async function results(): Promise<Results> {
  const [name] = (await readdir(folder)).filter((file) => file.endsWith('.json'));
  return JSON.parse(await readFile(join(folder, name as string), 'utf8')) as Results;
}

async function leftovers(): Promise<string[]> {
  return (await listNamespaces()).filter((name) => name.startsWith('tweed-bench-'));
}

describe('npm run bench', () => {
  beforeAll(async () => {
    // also builds it
    await exec([process.execPath, tool, '--help'], { timeoutMs: patient(120_000) });
  });
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tweed-bench-test-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
  afterAll(async () => expect(await leftovers()).toEqual([]));

  it('measures crossings and traffic, and writes results and report', async () => {
    const chosen = [
      'tcp-1',
      'flood-64',
      'ping',
      'udp-rr',
      'warm-64',
      'warm-512',
      'warm-1472',
      'warm-16384',
      'warm-63488',
    ];
    const run = bench(
      ...['crossings', 'ladder', 'throughput', 'scale', '--quick', '--rounds', '2', '--contenders', 'direct', 'tweed'],
      ...['--measurements', ...chosen, 'lookup-10', 'lookup-10000', 'leases-1000'],
    );
    expect(await run.status, run.output()).toBe(0);
    const { schema, complete, samples, failures, contenders } = await results();
    expect(schema).toBe(SCHEMA);
    expect(complete).toBe(true);
    expect(failures).toEqual([]);
    expect(contenders.map(({ id }) => id)).toEqual(
      expect.arrayContaining(['direct', 'tweed', 'single', 'super', 'table']),
    );

    const of = (suite: string, contender: string, measurement: string) =>
      samples.filter((one) => one.suite === suite && one.contender === contender && one.measurement === measurement);
    const crossing = of('crossings', 'super', 'warm-16384');
    expect(crossing).toHaveLength(2);
    for (const part of ['app-send', 'tun-read', 'udp-send', 'udp-receive', 'tun-write', 'app-receive']) {
      for (const { values } of crossing) {
        expect(values[`${part}.full.wall`], part).toBeGreaterThan(0);
        expect(values[`${part}.full.cpu`], part).toBeGreaterThan(0);
        expect(values[`${part}.empty.wall`], part).toBeLessThan(values[`${part}.full.wall`] as number);
      }
    }
    for (const { values } of of('ladder', 'tweed', 'tcp-1')) {
      expect(values.gbps).toBeGreaterThan(0);
      expect(values.daemonCpu).toBeGreaterThan(0);
      // six copies, headers and acknowledgements; and what a busy machine loses and sends again, which is never a third
      expect(values.copiesPerByte).toBeGreaterThan(6);
      expect(values.copiesPerByte).toBeLessThan(8);
      // without the kernel's trace points it is not counted
      if (values.callsPerPacket !== undefined) {
        expect(values.callsPerPacket).toBeGreaterThan(0);
        expect(values.callsPerPacket).toBeLessThan(2);
      }
    }
    for (const { values } of of('throughput', 'direct', 'ping')) expect(values.rttP50).toBeGreaterThan(0);
    expect(of('throughput', 'tweed-again', 'tcp-1')).toHaveLength(2);
    expect(of('scale', 'daemon', 'leases-1000')).toHaveLength(2);
    expect((await readdir(folder)).filter((file) => file.endsWith('.html'))).toHaveLength(1);
    expect(run.output()).toContain('per full packet on the wire');
  });

  it('keeps finished rounds and cleans up after Ctrl-C', async () => {
    const run = bench(
      'throughput',
      '--quick',
      '--rounds',
      '1000',
      '--contenders',
      'direct',
      '--measurements',
      'ping',
      '--underlay',
      'whole',
    );
    // there is no line for a round: wait until the contender stands, and some rounds have had time to pass
    await expect.poll(leftovers, { timeout: patient(20_000) }).not.toEqual([]);
    await expect.poll(pings, { timeout: patient(20_000), interval: 5 }).toBeGreaterThan(0);
    const first = await newestPing();
    await expect.poll(newestPing, { timeout: patient(20_000), interval: 5 }).not.toBe(first);
    run.child.kill('SIGINT');
    expect(await run.status, run.output()).toBe(130);
    const { complete, samples } = await results();
    expect(complete).toBe(false);
    expect(samples.length).toBeGreaterThan(0);
    expect(await leftovers()).toEqual([]);
  });

  it('refuses what it does not know with one clear line', async () => {
    const run = bench('nonsense');
    expect(await run.status).toBe(1);
    expect(run.output()).toContain('nonsense');
    const compare = await exec([process.execPath, main, 'compare', '/nonexistent', '/nonexistent'], { tolerate: true });
    expect(compare.status).toBe(1);
    expect(compare.stderr).toContain('cannot read /nonexistent');
  });
});

/** The ping processes inside the benchmark's namespaces. */
async function pingPids(): Promise<string[]> {
  const found: string[] = [];
  for (const namespace of await leftovers()) {
    const { stdout } = await exec(['ip', 'netns', 'pids', namespace], { tolerate: true });
    for (const pid of stdout.split('\n').filter((line) => line !== '')) {
      try {
        if ((await readFile(`/proc/${pid}/comm`, 'utf8')).trim() === 'ping') found.push(pid);
      } catch {} // ended meanwhile
    }
  }
  return found;
}

async function pings(): Promise<number> {
  return (await pingPids()).length;
}

let seen = '';

/** The latest ping that was seen; it stays when none is running. */
async function newestPing(): Promise<string> {
  seen = (await pingPids()).at(-1) ?? seen;
  return seen;
}
