/** A host whose kernel was booted without IPv6, in networks that have it. */
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { daemonStatus } from '../../src/lab/daemon.js';
import { formatMatrix } from '../../src/lab/matrix.js';
import { backendKinds } from '../../src/lab/options.js';
import { patient } from '../../src/lab/patience.js';
import { useLab } from '../system/support/lab.js';

const without = !existsSync('/proc/net/if_inet6');
const wanted = { EnableIPv6: true, IPv6Network: 'fd00:100:96::/48' };

describe.runIf(without)('where the kernel has no IPv6', () => {
  describe.each(backendKinds)('the backend %s of a network of both families', (backend) => {
    const lab = useLab({ hosts: 2, containers: 1, backend, networkConfig: wanted });

    it('carries its IPv4, and says why no IPv6', async () => {
      const result = await lab().test({ transferBytes: 100_000 });
      expect(result.ok, formatMatrix(result)).toBe(true);
      expect((await daemonStatus(lab().files, 'host1'))?.ready).toBe(true);
      expect(readFileSync(lab().files.log('host1'), 'utf8')).toMatch(/is not carried, since this kernel has no IPv6/);
      const told = readFileSync(lab().files.subnetFile('host1'), 'utf8');
      expect(told).toContain('FLANNEL_SUBNET');
      expect(told).not.toContain('FLANNEL_IPV6');
    });

    it('has a doctor that names the cause, and what to do', async () => {
      const variables = Object.entries(lab().environment('host1')).map(([name, value]) => `${name}=${value}`);
      const options = { tolerate: true, timeoutMs: patient(20_000) };
      const { stdout } = await lab().exec('host1', ['env', ...variables, 'tweed', 'doctor'], options);
      expect(stdout).toContain('this kernel has no IPv6');
      expect(stdout).toContain('remove ipv6.disable=1');
    });
  });
});
