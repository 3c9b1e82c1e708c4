import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { forwarderThreads } from '../../../src/encap/datapath/threads.js';
import { patient } from '../../../src/lab/patience.js';
import { assertBuilt } from '../../support/built.js';

const script = fileURLToPath(new URL('support/sleeping-forwarders.mjs', import.meta.url));

beforeAll(() => assertBuilt());

describe.each([1, 2])('a process whose forwarders sleep, with %i threads', (threads) => {
  /** Runs the script to its end; a process that does not end is killed, and has no status then. */
  function end(way: string) {
    const words = [script, way, String(threads)];
    const { status, stdout, stderr } = spawnSync(process.execPath, words, {
      encoding: 'utf8',
      timeout: patient(15_000),
    });
    return { status, stdout, stderr };
  }

  it('ends when they are stopped; nothing was counted, though they have rehearsed', () => {
    expect(end('stop')).toEqual({ status: 0, stdout: '0 0', stderr: '' });
  });

  it('ends by process.exit', () => {
    expect(end('exit')).toEqual({ status: 3, stdout: '', stderr: '' });
  });

  it('does not wait for the options of one that has ended before it knew them', () => {
    expect(end('broken')).toEqual({ status: 4, stdout: '', stderr: '' });
  });

  it('ends by an error that nobody caught', () => {
    const { status, stderr } = end('throw');
    expect(status).toBe(1);
    expect(stderr).toContain('nobody catches this');
  });

  it('ends by a rejection that nobody handled', () => {
    const { status, stderr } = end('reject');
    expect(status).toBe(1);
    expect(stderr).toContain('nobody handles this');
  });
});

describe('the number of forwarder threads', () => {
  it.each([
    ['auto', 1, 1],
    ['auto', 2, 1],
    ['auto', 3, 2],
    ['auto', 64, 2],
    [1, 64, 1],
    [2, 1, 2],
  ] as const)('%s on %i processors is %i', (wanted, processors, threads) => {
    expect(forwarderThreads(wanted, processors)).toBe(threads);
  });
});
