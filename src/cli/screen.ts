import { setTimeout as sleep } from 'node:timers/promises';
import { standardOutput } from './print.js';

/** Another screen, so that what was on the terminal is there again afterwards (xterm's control sequences). */
const OTHER_SCREEN = '\x1b[?1049h';
const OWN_SCREEN = '\x1b[?1049l';
const CLEAR_SCREEN = '\x1b[H\x1b[2J';

/** In raw mode the terminal sends no signal for Ctrl-C, but this. */
const CTRL_C = '\x03';

/** How many characters there is room for. */
export interface ScreenSize {
  readonly columns: number;
  readonly rows: number;
}

/** Where pages go and keys come from: the process's own streams, or a test's. */
export interface Terminal {
  readonly output: NodeJS.WritableStream & {
    readonly isTTY?: boolean;
    readonly columns?: number;
    readonly rows?: number;
  };
  readonly input: NodeJS.ReadableStream & { readonly isTTY?: boolean; setRawMode?(raw: boolean): unknown };
}

export interface Repetition {
  /** One page; the size is null where there is no screen, and then nothing has to fit. */
  readonly page: (size: ScreenSize | null) => Promise<string>;
  readonly intervalMs: number;
  /** Pages until the end; 0: until somebody ends it. */
  readonly count?: number;
  /** Pages follow each other even on a terminal, as for JSON. */
  readonly plain?: boolean;
}

/**
 * Shows a page again and again: on a terminal in place, on a screen of its own, until `q` or Ctrl-C; else as text behind text.
 */
export async function repeatPage(
  { page, intervalMs, count = 0, plain = false }: Repetition,
  { output, input }: Terminal = { output: standardOutput(), input: process.stdin },
): Promise<void> {
  const isScreen = output.isTTY === true && !plain;
  const ended = new AbortController();
  const end = () => ended.abort();
  const leave = () => output.write(OWN_SCREEN);
  const restore: (() => void)[] = [() => output.off('error', end)];
  output.on('error', end); // nobody reads any more, or there is no room
  if (isScreen) {
    output.write(OTHER_SCREEN);
    process.once('exit', leave); // also when something nobody foresaw ends the process
    restore.push(() => {
      process.off('exit', leave);
      leave();
    });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.once(signal, end);
      restore.push(() => process.off(signal, end));
    }
    if (input.isTTY === true) restore.push(endByKey(input, end));
  }
  try {
    for (let shown = 0; !ended.signal.aborted; ) {
      const size = isScreen ? { columns: output.columns ?? 80, rows: output.rows ?? 24 } : null;
      const text = await page(size);
      output.write(isScreen ? CLEAR_SCREEN + text : text);
      if (++shown === count) return;
      await sleep(intervalMs, undefined, { signal: ended.signal }).catch(() => {});
    }
  } finally {
    for (const undo of restore.reverse()) undo();
  }
}

function endByKey(input: Terminal['input'], end: () => void): () => void {
  const onData = (keys: Buffer | string) => {
    if ([...keys.toString()].some((key) => 'qQ'.includes(key) || key === CTRL_C)) end();
  };
  input.setRawMode?.(true);
  input.on('data', onData);
  input.resume();
  return () => {
    input.off('data', onData);
    input.setRawMode?.(false);
    input.pause();
  };
}
