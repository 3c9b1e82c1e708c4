import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { addressOf } from '../../../src/linux/libc.js';
import { RegionAllocator, SharedMemory } from '../../../src/linux/memory.js';

describe('SharedMemory', () => {
  afterEach(() => void vi.unstubAllGlobals());

  it('says what to raise where the kernel gives no address space', () => {
    const Memory = vi.fn(function none() {
      throw new RangeError('WebAssembly.Memory(): could not allocate memory');
    });
    vi.stubGlobal('WebAssembly', { Memory });
    expect(() => SharedMemory.create(100 << 20)).toThrow(
      /no address space for 100 MiB of packets; raise the limits.*LimitAS=/,
    );
  });

  it('has room for what was asked, all zero, and stays where it is', () => {
    const memory = SharedMemory.create(100_000);
    expect(memory.u8.length).toBeGreaterThanOrEqual(100_000);
    expect(memory.u8.every((byte) => byte === 0)).toBe(true);
    expect(memory.base).toBe(addressOf(new Uint8Array(memory.memory.buffer)));
    expect(Number.isSafeInteger(memory.base)).toBe(true);
  });

  it('writes pointers as the machine reads them', () => {
    const memory = SharedMemory.create(65_536);
    memory.u8.fill(0xff, 0, 64);
    memory.setPointer(16, 12_345);
    const view = new DataView(memory.memory.buffer);
    expect(Number(view.getBigUint64(16, true))).toBe(memory.base + 12_345);
    expect([memory.u8[15], memory.u8[24]]).toEqual([0xff, 0xff]);
  });

  it('is the same memory in all its views, and attached again', () => {
    const memory = SharedMemory.create(65_536);
    const other = SharedMemory.attach(memory.memory);
    memory.f64[8] = 1.5;
    expect(other.f64[8]).toBe(1.5);
    memory.i32[20] = -2;
    expect([other.u32[20], other.u16[40], other.u8[80]]).toEqual([0xffff_fffe, 0xfffe, 0xfe]);
    expect(other.base).toBe(memory.base);
  });

  it('is the same memory in another thread', async () => {
    const memory = SharedMemory.create(65_536);
    memory.i32[1] = 41;
    const script = `
      const { workerData } = require('node:worker_threads');
      const words = new Int32Array(workerData.buffer);
      words[1]++;`;
    const worker = new Worker(script, { eval: true, workerData: memory.memory });
    await new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
    expect(memory.i32[1]).toBe(42);
  });
});

describe('RegionAllocator', () => {
  it('hands out regions that do not touch, aligned to a cache line or as asked, and never offset 0', () => {
    const regions = new RegionAllocator();
    const first = regions.take(10);
    const second = regions.take(1);
    const page = regions.take(5000, 4096);
    const last = regions.take(8, 8);
    expect([first, second, page, last]).toEqual([64, 128, 4096, 9096]);
    expect(regions.used).toBe(9104);
  });

  it('starts where it is told', () => {
    expect(new RegionAllocator(1000).take(4)).toBe(1024);
    expect(new RegionAllocator(4096).take(4)).toBe(4096);
  });

  it('gives nothing that belongs to the next one', () => {
    const regions = new RegionAllocator(4096, 4096 + 256);
    expect(regions.take(64)).toBe(4096);
    expect(() => regions.take(193)).toThrow(expect.objectContaining({ code: 'REGION_FULL' }));
    expect(() => regions.take(1, 4096)).toThrow(/plan a larger region/);
    expect(regions.take(192)).toBe(4160);
    expect(() => regions.take(1)).toThrow(/REGION_FULL|do not fit/);
  });
});
