import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const script = fileURLToPath(new URL('./support/allocations.mjs', import.meta.url));
const built = fileURLToPath(new URL('../../../dist/encap/tx.js', import.meta.url));

interface Measurement {
  readonly packets: number;
  readonly bytesPerPacket: readonly number[];
  readonly drops: readonly unknown[];
}

/** Forwards 200,000 packets in a process of its own. */
async function measure(way: string): Promise<Measurement> {
  if (!existsSync(built)) throw new Error('this test runs the built product: npm run build');
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', script, way]);
  return JSON.parse(stdout) as Measurement;
}

describe('forwarding allocates nothing per packet', { timeout: 120_000 }, () => {
  it.each([
    'tx single packets',
    'tx packets without a virtio-net header',
    'tx super-packets',
    'rx single datagrams, merged',
    'rx single datagrams, not merged',
    'rx runs of TCP, merged',
    'rx runs of other flows',
    'tx with real calls',
    'rx with real calls',
    'tx in its loop with real calls, one packet a wake-up',
  ])('%s', async (way) => {
    const { packets, bytesPerPacket, drops } = await measure(way);
    expect(drops).toEqual([]);
    expect(packets).toBeGreaterThanOrEqual(200_000);
    // an object is 16 bytes at least, and one per packet would be in every round; what the compiler makes, and the one
    // object of a turn, is less: 1.2 at most, under Node 24
    expect(Math.min(...bytesPerPacket), `bytes per packet, round by round: ${bytesPerPacket}`).toBeLessThan(4);
  });
});
