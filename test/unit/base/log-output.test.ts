import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createLogger, logState, silentLogger } from '../../../src/base/log.js';
import { readableLine } from '../../../src/base/log-format.js';
import { LogOutput } from '../../../src/base/log-output.js';

/** A descriptor that takes what it is told to take. */
class Descriptor {
  text = '';
  /** Bytes; null: an error of this code instead. */
  room = Number.POSITIVE_INFINITY;
  code: string | null = null;

  readonly hasRoom = () => this.code !== null || this.room > 0;
  readonly write = (bytes: Uint8Array) => {
    if (this.code !== null) throw Object.assign(new Error(this.code), { code: this.code });
    const taken = Math.min(bytes.length, this.room);
    this.room -= taken;
    this.text += Buffer.from(bytes.subarray(0, taken)).toString('latin1');
    return taken;
  };
}

let descriptor: Descriptor;
let output: LogOutput;

beforeEach(() => {
  vi.useFakeTimers();
  descriptor = new Descriptor();
  output = new LogOutput(descriptor);
});
afterEach(() => vi.useRealTimers());

describe('the log', () => {
  it.each(['ENOSPC', 'EIO', 'EAGAIN', 'EPIPE', 'EDQUOT', 'EBADF'])('survives %s, and comes back by itself', (code) => {
    const log = createLogger('info', output);
    descriptor.code = code;
    log.info('one');
    log.child({ part: 'x' }).info('two');
    expect(logState(log)).toEqual({ lost: 0, waiting: 2, error: code });
    descriptor.code = null;
    vi.advanceTimersByTime(1000);
    expect(descriptor.text.match(/"msg":"\w+"/g)).toEqual(['"msg":"one"', '"msg":"two"']);
    expect(logState(log.child({}))).toEqual({ lost: 0, waiting: 0, error: '' });
  });

  it('never makes a write that would wait', () => {
    const write = vi.spyOn(descriptor, 'write');
    const waiting = new LogOutput(descriptor);
    descriptor.room = 0;
    waiting.write('nobody reads\n');
    expect(write).not.toHaveBeenCalled();
    expect(waiting.state).toMatchObject({ waiting: 1, error: 'nobody reads it' });
  });

  it('counts what found no room to wait, and tells of it at that place', () => {
    descriptor.code = 'ENOSPC';
    const line = `${'x'.repeat(999)}\n`;
    for (let i = 0; i < 1000; i++) output.write(line);
    const { lost, waiting } = output.state;
    expect([lost > 0, waiting > 0, lost + waiting]).toEqual([true, true, 1000]);
    descriptor.code = null;
    output.write('last\n');
    const lines = descriptor.text.split('\n');
    expect(lines.length).toBe(waiting + 3);
    expect(JSON.parse(lines[waiting] ?? '')).toMatchObject({ level: 40, lines: lost, msg: 'log lines were lost here' });
    expect(lines[waiting + 1]).toBe('last');
    expect(output.state).toEqual({ lost, waiting: 0, error: '' });
  });

  it('takes one line that is longer than the queue', () => {
    const long = `${'y'.repeat(1_000_000)}\n`;
    descriptor.room = 5000;
    output.write(long);
    descriptor.room = Number.POSITIVE_INFINITY;
    output.flush();
    expect(descriptor.text).toBe(long);
  });

  it('writes every line that is not counted as lost, whole and in order, whatever room there is and when', () => {
    const events = fc.array(
      fc.oneof(
        fc.record({ line: fc.integer({ min: 1, max: 60_000 }) }),
        fc.record({ room: fc.integer({ min: 0, max: 100_000 }) }),
        fc.record({ code: fc.constantFrom('ENOSPC', 'EPIPE', 'EAGAIN') }),
      ),
    );
    fc.assert(
      fc.property(events, (script) => {
        const target = new Descriptor();
        const tried = new LogOutput(target);
        let number = 0;
        for (const event of script) {
          if ('line' in event) tried.write(`${`${number++} `.padEnd(event.line, '.')}\n`);
          if ('room' in event) Object.assign(target, { room: event.room, code: null });
          if ('code' in event) target.code = event.code;
        }
        Object.assign(target, { room: Number.POSITIVE_INFINITY, code: null });
        tried.flush();
        const own = target.text.split('\n').filter((line) => /^\d/.test(line));
        const numbers = own.map((line) => Number.parseInt(line, 10));
        expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
        expect(new Set(numbers).size + tried.state.lost).toBe(number);
        expect(tried.state.waiting).toBe(0);
      }),
    );
  });

  it('of a silent logger fares well', () => {
    expect(logState(silentLogger())).toEqual({ lost: 0, waiting: 0, error: '' });
  });
});

describe('a line for a terminal', () => {
  it.each([
    [
      '{"level":30,"time":"2026-11-26T12:31:30.791Z","sinceStartMs":1587,"device":"eth0","msg":"ready"}\n',
      '12:31:30.791 info  ready sinceStartMs=1587 device=eth0\n',
    ],
    [
      '{"level":40,"time":"2026-11-26T12:31:30.791Z","reason":"no way","peers":[1],"msg":"peer \\u001b[2Jrefused"}\n',
      '12:31:30.791 WARN  peer \\u001b[2Jrefused reason="no way" peers=[1]\n',
    ],
    ['tweed: it did not work\n', 'tweed: it did not work\n'],
    ['{broken\n', '{broken\n'],
  ])('%j', (line, expected) => expect(readableLine(line)).toBe(expected));

  it('is what is written, where it is asked for', () => {
    const terminal = new LogOutput(descriptor, readableLine);
    createLogger('info', terminal).info({ a: 1 }, 'hello');
    expect(descriptor.text).toMatch(/^[\d:.]+ info {2}hello a=1\n$/);
  });
});
