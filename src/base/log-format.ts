import { parseJson } from './json.js';
import { printable } from './printable.js';

/** pino's numbers. */
const levels: Readonly<Record<number, string>> = {
  10: 'trace',
  20: 'debug',
  30: 'info',
  40: 'WARN',
  50: 'ERROR',
  60: 'FATAL',
};

/** A line of the log as people read it: the time, the level, what happened, and the fields. What is none stays as it is. */
export function readableLine(line: string): string {
  const record = tryJson(line);
  if (typeof record !== 'object' || record === null) return line;
  const { level, time, msg, ...fields } = record as Readonly<Record<string, unknown>>;
  const clock = /T([\d:.]+)Z$/.exec(String(time))?.[1] ?? '';
  const said = Object.entries(fields).map(([name, value]) => `${name}=${shortly(value)}`);
  const words = [clock, (levels[Number(level)] ?? String(level)).padEnd(5), String(msg ?? ''), ...said];
  return `${printable(words.join(' ')).trim()}\n`;
}

function shortly(value: unknown): string {
  return typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}

function tryJson(line: string): unknown {
  try {
    return line.startsWith('{') ? parseJson(line) : null;
  } catch {
    return null;
  }
}
