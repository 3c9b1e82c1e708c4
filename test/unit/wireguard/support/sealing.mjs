// Run by allocations.test.ts in a process of its own, on the built product, and by hand for figures:
// seals and opens packets and prints how many bytes the V8 heap grew meanwhile, and the nanoseconds of CPU a packet.
//
// usage: node --expose-gc sealing.mjs seal|open LENGTH [PACKETS] [THREADS]
import v8 from 'node:v8';
import { isMainThread, Worker } from 'node:worker_threads';
import { createCopy } from '../../../../dist/linux/copy.js';
import { RegionAllocator, SharedMemory } from '../../../../dist/linux/memory.js';
import { createCipher } from '../../../../dist/linux/openssl.js';
import { KeySlots, SLOT_BYTES, SLOT_WINDOW } from '../../../../dist/wireguard/key-slots.js';
import { Secret } from '../../../../dist/wireguard/keys.js';
import { Mailbox } from '../../../../dist/wireguard/mailbox.js';
import { OPENER_BLOCKS, Opener } from '../../../../dist/wireguard/opener.js';
import { PeerRecords } from '../../../../dist/wireguard/peer-records.js';
import { clearWindow } from '../../../../dist/wireguard/replay-window.js';
import { SEALER_BLOCKS, Sealer } from '../../../../dist/wireguard/sealer.js';
import { planTransport } from '../../../../dist/wireguard/transport-layout.js';

const [way, lengthText, packetsText = '60000', threads = '1'] = process.argv.slice(2);
const length = Number(lengthText);
const packets = Number(packetsText);
const ROUNDS = 8;
const BATCH = 32;

if (isMainThread)
  for (let i = 1; i < Number(threads); i++) new Worker(new URL(import.meta.url), { argv: process.argv.slice(2) });

const memory = SharedMemory.create(8 << 20);
const { u8, i32, f64 } = memory;
const regions = new RegionAllocator();
const layout = planTransport(regions, 4);
const copy = createCopy(memory);
const slots = new KeySlots(memory, layout.keys, (bytes) => new Uint8Array(bytes).fill(7));
const records = new PeerRecords(memory, layout.peers);
const sealer = new Sealer(memory, createCipher(memory, regions, SEALER_BLOCKS), copy, layout, 1440, () => {});
const mailbox = new Mailbox(memory, layout.mailbox, copy);
const opener = new Opener(memory, createCipher(memory, regions, OPENER_BLOCKS), copy, layout, mailbox, () => {});
const packet = regions.take(2048);
const name = regions.take(28);
const stride = 2048;
const datagrams = regions.take(BATCH * stride);
const index = slots.reserve(0);
const key = () => new Secret(new Uint8Array(32).fill(9));
slots.install(index, 1, index, { send: key(), receive: key() });
records.setSending(1, slots.slotOf(index));
u8.set([0x45, 0, length >>> 8, length & 255], packet);
u8[name] = 2;
let done = 0;
let failed = 0;

function sealAll() {
  sealer.reset();
  for (let i = 0; i < BATCH; i++) {
    if (sealer.seal(1, packet, 40, packet + 40, length - 40) === 0) failed++;
  }
}

for (let i = 0; i < BATCH; i++) {
  sealer.reset();
  const sealed = sealer.seal(1, packet, length, 0, 0);
  u8.copyWithin(datagrams + i * stride, sealer.at, sealer.at + sealed);
}
const datagramLength = sealer.messageLength(length);
const window = layout.keys.slots + slots.slotOf(index) * SLOT_BYTES + SLOT_WINDOW;

function openAll() {
  opener.reset();
  for (let i = 0; i < BATCH; i++) {
    if (opener.open(datagrams + i * stride, datagramLength, name) !== length) failed++;
  }
}

function turn(count) {
  for (let i = 0; i < count; i += BATCH, done += BATCH) {
    if (way === 'seal') sealAll();
    else {
      // the same datagrams over and over: the window must not remember them
      forget();
      openAll();
    }
  }
}

const at = window >>> 3;
function forget() {
  f64[at] = 0;
  i32[(at << 1) + 2] = 0;
}
clearWindow(i32, window);

turn(40_000);
const rounds = [];
let best = Number.POSITIVE_INFINITY;
for (let round = 0; round < ROUNDS; round++) {
  globalThis.gc();
  const before = v8.getHeapStatistics().used_heap_size;
  const began = process.cpuUsage();
  turn(packets);
  const { user, system } = process.cpuUsage(began); // of all threads, which are at it as long as this one
  const took = (1000 * (user + system)) / packets / Number(threads);
  rounds.push((v8.getHeapStatistics().used_heap_size - before) / packets);
  best = Math.min(best, took);
}
console.log(JSON.stringify({ packets: done, failed, bytesPerPacket: rounds, nanoseconds: Math.round(best) }));
