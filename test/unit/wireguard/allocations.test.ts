import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { patient } from '../../../src/lab/patience.js';

const script = fileURLToPath(new URL('./support/sealing.mjs', import.meta.url));
const built = fileURLToPath(new URL('../../../dist/wireguard/sealer.js', import.meta.url));

describe('sealing and opening allocate nothing per packet', { timeout: patient(120_000) }, () => {
  it.each([
    ['seal', 1420],
    ['seal', 64],
    ['open', 1420],
    ['open', 64],
  ])('%s, %i bytes', async (way, length) => {
    if (!existsSync(built)) throw new Error('this test runs the built product: npm run build');
    const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', script, way, `${length}`]);
    const { packets, failed, bytesPerPacket } = JSON.parse(stdout);
    expect(failed).toBe(0);
    expect(packets).toBeGreaterThanOrEqual(500_000);
    // the compiler's own objects fall into some of the rounds, an allocation per packet (8 bytes at least) into all
    expect(Math.min(...bytesPerPacket), `bytes per packet, round by round: ${bytesPerPacket}`).toBeLessThan(1);
  });
});
