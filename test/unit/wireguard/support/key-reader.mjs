// Run by key-slots.test.ts in threads of their own, on the built product: seals under whatever key the control thread has
// just put in place, and tells which key and counter each message used. The cipher is a fake that looks at its key.
import { parentPort, workerData } from 'node:worker_threads';
import { createCopy } from '../../../../dist/linux/copy.js';
import { RegionAllocator, SharedMemory } from '../../../../dist/linux/memory.js';
import { Sealer } from '../../../../dist/wireguard/sealer.js';

const { memory: raw, layout, at, stop, met, peer } = workerData;
const memory = SharedMemory.attach(raw);
const { i32 } = memory;
const regions = new RegionAllocator(at);
const cipher = {
  engine: 'node',
  key: regions.take(32),
  nonce: regions.take(12),
  tag: regions.take(16),
  arena: regions.take(64 * 64),
  blocks: 64,
  seal() {
    const key = i32[cipher.key >>> 2];
    for (let word = 1; word < 8; word++) if (i32[(cipher.key >>> 2) + word] !== key) torn++;
    if (key === 0) torn++;
    if (Math.floor(last / 2 ** 32) !== key) Atomics.add(i32, met >>> 2, 1);
    last = key * 2 ** 32 + i32[(cipher.nonce >>> 2) + 1];
    return true;
  },
  open: () => false,
  forget() {},
  close() {},
};
let torn = 0;
let last = 0;
const used = [];
const sealer = new Sealer(memory, cipher, createCopy(memory), layout, 1420, () => {});
parentPort.postMessage('running');
while (Atomics.load(i32, stop >>> 2) === 0) {
  sealer.reset();
  if (sealer.seal(peer, at, 20, at, 0) === 0) continue;
  // the peer's index says which session a message claims to be of: the key has to be that session's
  if (i32[(sealer.at + 4) >>> 2] !== Math.floor(last / 2 ** 32)) torn++;
  if (used.length < 2_000_000) used.push(last);
}
parentPort.postMessage({ torn, used });
