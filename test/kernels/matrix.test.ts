/** The lab on this kernel, with every backend, and what the udp backend has in force there. */
import { describe, expect, it } from 'vitest';
import { formatMatrix } from '../../src/lab/matrix.js';
import { backendKinds } from '../../src/lab/options.js';
import { fetchStatus } from '../../src/operator/status-client.js';
import { useLab } from '../system/support/lab.js';
import { testedKernel } from './kernel.js';

const { expected } = testedKernel();
const wanted = process.env.TWEED_KERNELS_BACKENDS?.split(' ');
const backends = backendKinds.filter((kind) => wanted === undefined || wanted.includes(kind));

describe.each(backends)('a lab with the backend %s', (backend) => {
  const lab = useLab({ hosts: 2, containers: 1, backend });

  it('carries all kinds of traffic', async () => {
    const result = await lab().test({ transferBytes: 1 << 20 });
    expect(result.ok, formatMatrix(result)).toBe(true);
  });

  if (backend !== 'udp') return;

  it('has in force what this kernel is known for', async () => {
    const { backend: status } = await fetchStatus(lab().files.runFolder('host1'));
    const features = status?.features ?? [];
    const inForce = Object.fromEntries(features.map((feature) => [feature.name, feature.inForce]));
    expect(inForce).toMatchObject({
      tun_tso: 'on',
      tun_uso: expected.tun_uso,
      udp_gso: 'on',
      udp_gro: 'on',
      udp_batch: 'on',
      merge_tcp: 'on',
      merge_udp: expected.merge_udp,
    });
  });
});
