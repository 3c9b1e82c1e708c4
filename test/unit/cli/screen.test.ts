import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { repeatPage, type ScreenSize, type Terminal } from '../../../src/cli/screen.js';

/** A terminal whose output is gathered and whose raw mode is noted. */
function terminal(isTTY: boolean): Terminal & { text: () => string; raw: boolean[]; type: (keys: string) => void } {
  const [output, input] = [new PassThrough(), new PassThrough()];
  const raw: boolean[] = [];
  const chunks: string[] = [];
  output.on('data', (chunk: Buffer) => chunks.push(chunk.toString()));
  return {
    output: Object.assign(output, { isTTY, columns: 60, rows: 10 }),
    input: Object.assign(input, { isTTY, setRawMode: (on: boolean) => raw.push(on) }),
    text: () => chunks.join(''),
    raw,
    type: (keys) => input.write(keys),
  };
}

describe('a page that is shown again and again', () => {
  it.each(['q', 'Q', 'xyq', '\x03'])('ends on the key %j, and leaves the terminal as it was', async (keys) => {
    const screen = terminal(true);
    let pages = 0;
    let size: ScreenSize | null = null;
    await repeatPage(
      {
        page: async (given) => {
          size = given;
          if (++pages === 2) screen.type(keys);
          return `page ${pages}`;
        },
        intervalMs: 1,
      },
      screen,
    );
    expect(size).toEqual({ columns: 60, rows: 10 });
    expect(screen.text().startsWith(`\x1b[?1049h\x1b[H\x1b[2Jpage 1`)).toBe(true);
    expect(screen.text().endsWith('\x1b[?1049l')).toBe(true);
    expect(screen.raw).toEqual([true, false]);
  });

  it('ends when nobody reads it any more', async () => {
    const screen = terminal(false);
    let pages = 0;
    const page = async () => {
      if (++pages === 2) screen.output.emit('error', Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
      return 'page';
    };
    await repeatPage({ page, intervalMs: 1, count: 100 }, screen);
    expect(pages).toBe(2);
  });

  it('goes on with other keys until its last page', async () => {
    const screen = terminal(true);
    const page = async () => {
      screen.type('abc');
      return 'page';
    };
    await repeatPage({ page, intervalMs: 1, count: 3 }, screen);
    expect(screen.text().match(/page/g)).toHaveLength(3);
  });

  it('is text behind text where there is no terminal, or none is wanted', async () => {
    for (const [isTTY, plain] of [
      [false, false],
      [true, true],
    ] as const) {
      const screen = terminal(isTTY);
      let size: ScreenSize | null | undefined;
      const page = async (given: ScreenSize | null) => {
        size = given;
        return 'page\n';
      };
      await repeatPage({ page, intervalMs: 1, count: 2, plain }, screen);
      expect([screen.text(), size, screen.raw]).toEqual(['page\npage\n', null, []]);
    }
  });

  it('puts the terminal right when a page fails', async () => {
    const screen = terminal(true);
    const failing = repeatPage({ page: () => Promise.reject(new Error('no page')), intervalMs: 1 }, screen);
    await expect(failing).rejects.toThrow('no page');
    expect([screen.text().endsWith('\x1b[?1049l'), screen.raw]).toEqual([true, [true, false]]);
  });
});
