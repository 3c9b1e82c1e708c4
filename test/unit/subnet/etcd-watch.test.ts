import { EventEmitter } from 'node:events';
import { EtcdPermissionDeniedError, type IEvent } from 'etcd3';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { CompactedError, RegistryError } from '../../../src/subnet/errors.js';
import type { WatchStream } from '../../../src/subnet/etcd/etcd-endpoint.js';
import { watchEtcd } from '../../../src/subnet/etcd/etcd-watch.js';

/** The other end of a stream, played by the test. */
class FakeStream extends EventEmitter {
  readonly written: Record<string, unknown>[] = [];
  cancelled = false;

  write(request: Record<string, unknown>): void {
    this.written.push(request);
  }

  end(): void {}

  cancel(): void {
    this.cancelled = true;
    this.emit('error', new Error('cancelled on client'));
  }

  answer(fields: Record<string, unknown>): void {
    this.emit('data', {
      created: false,
      canceled: false,
      compact_revision: '0',
      cancel_reason: '',
      events: [],
      ...fields,
    });
  }

  get probes(): number {
    return this.written.filter((request) => 'progress_request' in request).length;
  }
}

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

function start() {
  const stream = new FakeStream();
  const controller = new AbortController();
  const events: IEvent[] = [];
  const causes: unknown[] = [];
  let established = 0;
  const opener = {
    openWatch: async () => ({
      stream: stream as unknown as WatchStream,
      failed: (error: unknown) => {
        causes.push(error);
        return new RegistryError(String(error));
      },
    }),
  };
  const ended = watchEtcd(opener, {
    range: { key: Buffer.from('a/'), end: Buffer.from('a0') },
    startRevision: '42',
    signal: controller.signal,
    onEstablished: () => established++,
    onEvents: (batch) => events.push(...batch),
    probeIntervalMs: 10_000,
  }).then(
    () => 'resolved',
    (error: unknown) => error,
  );
  return { stream, controller, events, causes, ended, established: () => established };
}

const event = { type: 'Put' } as unknown as IEvent;

it('asks for the range from the wanted revision on, and hands events over', async () => {
  const { stream, controller, events, ended, established } = start();
  await vi.advanceTimersByTimeAsync(0);
  expect(stream.written).toEqual([
    { create_request: { key: Buffer.from('a/'), range_end: Buffer.from('a0'), start_revision: '42' } },
  ]);
  stream.answer({ created: true });
  expect(established()).toBe(1);
  stream.answer({ events: [event, event] });
  expect(events).toHaveLength(2);
  controller.abort();
  stream.answer({ events: [event] });
  expect(await ended).toBe('resolved');
  expect(events).toHaveLength(2);
  expect(stream.cancelled).toBe(true);
});

it('gives up a watch that is not confirmed', async () => {
  const { ended } = start();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await ended).toBeInstanceOf(RegistryError);
});

it('gives up a server that answered probes and then does not any more', async () => {
  const { stream, ended } = start();
  await vi.advanceTimersByTimeAsync(0);
  stream.answer({ created: true });
  await vi.advanceTimersByTimeAsync(10_000);
  expect(stream.probes).toBe(1);
  stream.answer({}); // progress
  await vi.advanceTimersByTimeAsync(20_000);
  expect(stream.probes).toBe(3);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(String(await ended)).toMatch(/no longer answers/);
  expect(stream.cancelled).toBe(true);
});

it('takes an event for a sign of life too', async () => {
  const { stream, controller, ended } = start();
  await vi.advanceTimersByTimeAsync(0);
  stream.answer({ created: true });
  await vi.advanceTimersByTimeAsync(10_000);
  stream.answer({});
  for (let i = 0; i < 10; i++) {
    await vi.advanceTimersByTimeAsync(15_000);
    stream.answer({ events: [event] });
  }
  controller.abort();
  expect(await ended).toBe('resolved');
});

it('trusts a server that never answered a probe', async () => {
  const { stream, controller, ended } = start();
  await vi.advanceTimersByTimeAsync(0);
  stream.answer({ created: true });
  await vi.advanceTimersByTimeAsync(600_000);
  controller.abort();
  expect(await ended).toBe('resolved');
});

it.each([{ compact_revision: '50' }, { cancel_reason: 'etcdserver: mvcc: required revision has been compacted' }])(
  'tells a compaction from a failure (%o)',
  async (fields) => {
    const { stream, ended, causes } = start();
    await vi.advanceTimersByTimeAsync(0);
    stream.answer({ created: true });
    stream.answer({ canceled: true, ...fields });
    expect(await ended).toBeInstanceOf(CompactedError);
    expect(causes).toEqual([]);
  },
);

it('passes on why the server cancelled it', async () => {
  const denied = start();
  await vi.advanceTimersByTimeAsync(0);
  denied.stream.answer({ created: true, canceled: true, cancel_reason: 'rpc error: etcdserver: permission denied' });
  await denied.ended;
  expect(denied.causes[0]).toBeInstanceOf(EtcdPermissionDeniedError);
  const leaderless = start();
  await vi.advanceTimersByTimeAsync(0);
  leaderless.stream.answer({ created: true });
  leaderless.stream.answer({ canceled: true, cancel_reason: 'etcdserver: no leader' });
  expect(String(await leaderless.ended)).toMatch(/no leader/);
});

it('ends with the stream', async () => {
  const closed = start();
  await vi.advanceTimersByTimeAsync(0);
  closed.stream.emit('end');
  expect(String(await closed.ended)).toMatch(/closed by the server/);
  const broken = start();
  await vi.advanceTimersByTimeAsync(0);
  broken.stream.emit('error', new Error('connection reset'));
  expect(String(await broken.ended)).toMatch(/connection reset/);
});
