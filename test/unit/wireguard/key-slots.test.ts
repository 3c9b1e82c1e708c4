import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { RegionAllocator, SharedMemory } from '../../../src/linux/memory.js';
import { KeySlots } from '../../../src/wireguard/key-slots.js';
import { Secret } from '../../../src/wireguard/keys.js';
import { PeerRecords } from '../../../src/wireguard/peer-records.js';
import { planTransport } from '../../../src/wireguard/transport-layout.js';
import { seeded } from '../../support/wireguard/host.js';

const script = fileURLToPath(new URL('./support/key-reader.mjs', import.meta.url));
const built = fileURLToPath(new URL('../../../dist/wireguard/sealer.js', import.meta.url));
const PEER = 1;
/** Keys that each thread has to meet. */
const ENOUGH = 300;

/** A key that names its session in every word. */
function keyOf(session: number): Secret {
  return new Secret(new Uint8Array(new Int32Array(8).fill(session).buffer));
}

it('threads that send never use half a key, a key that is gone, or a counter twice', { timeout: 60_000 }, async () => {
  if (!existsSync(built)) throw new Error('this test runs the built product: npm run build');
  const memory = SharedMemory.create(4 << 20);
  const regions = new RegionAllocator();
  const layout = planTransport(regions, 2);
  const stop = regions.take(4);
  const progress = [regions.take(4), regions.take(4)];
  const slots = new KeySlots(memory, layout.keys, seeded('slots'));
  const records = new PeerRecords(memory, layout.peers);
  const readers = progress.map((met) => {
    const at = regions.take(16_384, 4096);
    return new Worker(script, { workerData: { memory: memory.memory, layout, at, stop, met, peer: PEER } });
  });
  const messages = readers.map((reader) => {
    const got: unknown[] = [];
    const waiting: (() => void)[] = [];
    reader.on('message', (message) => {
      got.push(message);
      waiting.shift()?.();
    });
    return async () => {
      if (got.length === 0) await new Promise<void>((resolve) => waiting.push(resolve));
      return got.shift();
    };
  });
  try {
    for (const next of messages) await next();
    // no slot rests: a slot gets its next session while readers are still in the middle of the last one's
    let now = 0;
    let last: number | undefined;
    const enough = () => progress.every((met) => Atomics.load(memory.i32, met >>> 2) >= ENOUGH);
    for (let session = 1; !enough(); session++) {
      now += 10_000;
      const index = slots.reserve(now)!;
      slots.install(index, PEER, session, { send: keyOf(session), receive: keyOf(-session) });
      records.setSending(PEER, slots.slotOf(index));
      if (session % 3 === 0) records.setSending(PEER, -1);
      if (last !== undefined) slots.release(last, now - 10_000);
      last = index;
      for (let spin = (session * 7919) % 400; spin > 0; spin--) Atomics.load(memory.i32, stop >>> 2);
    }
    Atomics.store(memory.i32, stop >>> 2, 1);
    const reports = (await Promise.all(messages.map((next) => next()))) as { torn: number; used: number[] }[];
    const used = reports.flatMap((report) => report.used);
    expect(reports.map(({ torn }) => torn)).toEqual([0, 0]);
    expect(used.length).toBeGreaterThan(1_000);
    expect(new Set(used).size).toBe(used.length);
  } finally {
    await Promise.all(readers.map((reader) => reader.terminate()));
  }
});
