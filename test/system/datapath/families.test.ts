import { describe, expect, it } from 'vitest';
import { daemonStatus } from '../../../src/lab/daemon.js';
import { formatMatrix } from '../../../src/lab/matrix.js';
import { familiesOf } from '../../../src/lab/options.js';
import { LabFiles } from '../../../src/lab/state.js';
import { useLab } from '../support/lab.js';

describe.each([
  { ipFamilies: 'dual', underlayFamily: 'ipv4' },
  { ipFamilies: 'dual', underlayFamily: 'ipv6' },
  { ipFamilies: 'dual', underlayFamily: 'dual' },
  { ipFamilies: 'ipv6', underlayFamily: 'ipv4' },
] as const)('a lab of the udp backend: $ipFamilies over $underlayFamily', ({ ipFamilies, underlayFamily }) => {
  const lab = useLab({ ipFamilies, underlayFamily, hosts: 2, containers: 1, registry: 'directory' });

  it('carries every kind of traffic of every family', async () => {
    const result = await lab().test({ transferBytes: 500_000 });
    expect(result.ok, formatMatrix(result)).toBe(true);
    const families = familiesOf(ipFamilies);
    expect(result.pairs.map(({ family }) => family).sort()).toEqual([...families, ...families].sort());
  });

  it('drops none of it', async () => {
    const status = await daemonStatus(await LabFiles.of(lab().options.name), 'host1');
    const dropped = Object.entries(status?.backend?.drops ?? {}).filter(([, count]) => count > 0);
    // what the kernel says on every device of its own accord
    expect(dropped.filter(([reason]) => reason !== 'tx_multicast_or_link_local')).toEqual([]);
  });
});
