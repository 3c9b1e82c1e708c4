import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const script = fileURLToPath(new URL('support/sleeping-forwarders.mjs', import.meta.url));

/** Runs the script to its end; a process that does not end is killed, and has no status then. */
function end(way: string) {
  const { status, stderr } = spawnSync(process.execPath, [script, way], { encoding: 'utf8', timeout: 15_000 });
  return { status, stderr };
}

describe('a process whose forwarders sleep', () => {
  it('ends when they are stopped', () => {
    expect(end('stop')).toEqual({ status: 0, stderr: '' });
  });

  it('ends by process.exit', () => {
    expect(end('exit')).toEqual({ status: 3, stderr: '' });
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
