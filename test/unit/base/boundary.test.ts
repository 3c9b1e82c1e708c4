import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const source = fileURLToPath(new URL('../../../src/', import.meta.url));
const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));

/** The files that use something, but for the one whose business it is. */
function users(pattern: RegExp, owner: string): string[] {
  return files.filter((file) => file !== owner && pattern.test(readFileSync(join(source, file), 'utf8')));
}

describe('each way in has one gate', () => {
  it('the patterns below find what they are for', () => {
    expect(files.length).toBeGreaterThan(100);
    expect(users(/\bJSON\.parse\(/, '')).toEqual(['base/json.ts']);
    expect(users(/\bmkdir\(/, '')).toEqual(['base/atomic-file.ts']);
  });

  it('JSON is parsed with limits', () => {
    expect(users(/\bJSON\.parse\b/, 'base/json.ts')).toEqual([]);
  });

  it('directories are made by the way that returns below /proc, too', () => {
    expect(users(/\bmkdir(Sync)?\([^)]*recursive/, 'base/atomic-file.ts')).toEqual([]);
  });
});
