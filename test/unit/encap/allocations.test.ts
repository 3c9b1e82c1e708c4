import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { patient } from '../../../src/lab/patience.js';
import { assertBuilt } from '../../support/built.js';

const script = fileURLToPath(new URL('./support/allocations.mjs', import.meta.url));

interface Measurement {
  readonly packets: number;
  readonly bytesPerPacket: readonly number[];
  readonly drops: readonly unknown[];
}

/** Forwards 500,000 packets in a process of its own. */
async function measure(way: string): Promise<Measurement> {
  assertBuilt();
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', script, way]);
  return JSON.parse(stdout) as Measurement;
}

describe('forwarding allocates nothing per packet', { timeout: patient(120_000) }, () => {
  it.each([
    'tx super-packets, sealed',
    'tx single packets, sealed',
    'rx runs of TCP, opened and merged',
    'tx single packets',
    'tx packets without a virtio-net header',
    'tx super-packets',
    'rx single datagrams, merged',
    'rx single datagrams, not merged',
    'rx runs of TCP, merged',
    'rx runs of other flows',
    'tx single IPv6 packets by IPv6',
    'tx IPv6 super-packets by IPv6',
    'rx single IPv6 datagrams by IPv6',
    'rx runs of IPv6 TCP by IPv6, merged',
    'tx with real calls',
    'rx with real calls',
    'tx in its loop with real calls, one packet a wake-up',
  ])('%s', async (way) => {
    const { packets, bytesPerPacket, drops } = await measure(way);
    expect(drops).toEqual([]);
    expect(packets).toBeGreaterThanOrEqual(500_000);
    // the compiler's own objects fall into some of the rounds, an allocation per packet (8 bytes at least) into all
    expect(Math.min(...bytesPerPacket), `bytes per packet, round by round: ${bytesPerPacket}`).toBeLessThan(1);
  });
});
