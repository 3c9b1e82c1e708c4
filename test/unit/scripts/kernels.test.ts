import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { quirksOf } from '../../../src/linux/kernel-quirks.js';
import type { TestedKernel } from '../../kernels/kernel.js';

const path = new URL('../../kernels/kernels.json', import.meta.url);
const kernels = JSON.parse(readFileSync(path, 'utf8')) as (TestedKernel & { branch: string })[];

describe('the kernels that are tested', () => {
  it('have each name once', () => {
    expect(new Set(kernels.map(({ name }) => name)).size).toBe(kernels.length);
  });

  it.each(kernels)('$name is expected to be what the table of quirks says', ({ branch, expected }) => {
    const quirks = quirksOf(branch).map(({ name }) => name);
    const uso = quirks.includes('tun_without_uso') ? 'off' : 'on';
    expect(expected).toMatchObject({ tun_uso: uso, merge_udp: uso });
    // stable branches have got the longer sends of 6.9 too
    if (!quirks.includes('udp_gso_64_segments')) expect(expected.segmentsPerSend).toBe(128);
  });
});
