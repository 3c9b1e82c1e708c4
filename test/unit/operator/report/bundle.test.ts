import { spawnSync } from 'node:child_process';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { archiveReport, gatherParts, type ReportPart } from '../../../../src/operator/report/bundle.js';
import { tarArchive } from '../../../../src/operator/report/tar.js';

const part = (file: string, gather: () => Promise<string>, keep?: 'start' | 'end'): ReportPart => ({
  file,
  about: `about ${file}`,
  gather,
  ...(keep === undefined ? {} : { keep }),
});
const same = (text: string) => text;

describe('the parts of a report', () => {
  it('fail each for itself, whether they throw, reject or never end', async () => {
    const parts = await gatherParts(
      [
        part('good', async () => 'fine\n'),
        part('throws', () => {
          throw new Error('no such thing');
        }),
        part('rejects', async () => Promise.reject(new Error('refused'))),
        part('hangs', () => new Promise(() => {})),
      ],
      same,
      { bytes: 1000, milliseconds: 50 },
    );
    expect(parts.map(({ file, remark }) => [file, remark])).toEqual([
      ['good', ''],
      ['throws', 'could not be had: no such thing'],
      ['rejects', 'could not be had: refused'],
      ['hangs', 'could not be had: not there after 0.05 s'],
    ]);
    const text = gunzipSync(archiveReport('folder', 'Preface.\n', parts, 0)).toString();
    for (const said of ['Preface.', 'about hangs', 'could not be had: refused', 'fine']) expect(text).toContain(said);
  });

  it('are cut to their size, at the end that tells less, and after secrets were taken out', async () => {
    const long = `start${'x'.repeat(5000)}secret${'y'.repeat(5000)}end`;
    const clean = (text: string) => text.replaceAll('secret', '***');
    const limits = { bytes: 5008, milliseconds: 10_000 };
    const [head, tail] = await gatherParts(
      [part('head', async () => long), part('tail', async () => long, 'end')],
      clean,
      limits,
    );
    expect(head?.text.slice(0, 5)).toBe('start');
    expect(tail?.text.slice(-3)).toBe('end');
    for (const cut of [head, tail]) {
      expect(Buffer.byteLength(cut?.text ?? '')).toBe(5008);
      expect(cut?.text).not.toContain('secr');
      expect(cut?.remark).toMatch(/^cut: the (start|end) of 10011 bytes$/);
    }
  });

  it('have no secret in their errors either', async () => {
    const failing = part('part', async () => Promise.reject(new Error('refused secret')));
    const [one] = await gatherParts([failing], (text) => text.replaceAll('secret', '***'));
    expect(`${one?.text}${one?.remark}`).not.toContain('secret');
  });
});

describe('an archive', () => {
  it('is what tar reads', () => {
    const files = [
      { name: 'folder/empty', content: Buffer.from('') },
      { name: 'folder/block', content: Buffer.alloc(512, 'b') },
      { name: 'folder/words.txt', content: Buffer.from('Wörter\n') },
    ];
    const archive = tarArchive(files, 1_700_000_000);
    const tar = (...words: string[]) => spawnSync('tar', words, { input: archive, env: { ...process.env, TZ: 'UTC' } });
    const listed = tar('--list', '--verbose', '--full-time', '--file=-').stdout.toString();
    expect(
      listed
        .trim()
        .split('\n')
        .map((line) => line.replace(/\s+/g, ' ')),
    ).toEqual([
      '-rw------- 0/0 0 2023-11-14 22:13:20 folder/empty',
      '-rw------- 0/0 512 2023-11-14 22:13:20 folder/block',
      '-rw------- 0/0 8 2023-11-14 22:13:20 folder/words.txt',
    ]);
    for (const { name, content } of files) expect(tar('-xOf', '-', name).stdout).toEqual(content);
    expect(() => tarArchive([{ name: 'x'.repeat(101), content: Buffer.from('') }], 0)).toThrow(RangeError);
  });
});
