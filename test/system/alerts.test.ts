import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { exec } from '../../src/base/exec.js';
import { patient } from '../../src/lab/patience.js';
import { renderMetrics } from '../../src/observe/metrics.js';
import { daemonStatus } from '../unit/operator/status.js';

/** Where scripts/support/tools.mjs unpacks it. */
const promtool = '/var/lib/tweed-tools/usr/bin/promtool';
const alerts = fileURLToPath(new URL('../../packaging/prometheus/', import.meta.url));

const run = (words: readonly string[], input = '') =>
  exec([promtool, ...words], { tolerate: true, timeoutMs: patient(60_000), input });

describe.skipIf(!existsSync(promtool))('the alert rules', () => {
  it('are rules', async () => {
    const { stdout, stderr, status } = await run(['check', 'rules', `${alerts}alerts.yml`]);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toContain('SUCCESS');
  });

  it('fire when they should and not on a host that is well', async () => {
    const { stdout, stderr, status } = await run(['test', 'rules', `${alerts}alerts.test.yml`]);
    expect(`${stdout}${stderr}`).toContain('SUCCESS');
    expect(status).toBe(0);
  });

  it('are each tried, both ways', async () => {
    const [rules, tests] = await Promise.all(
      ['alerts.yml', 'alerts.test.yml'].map((file) => readFile(`${alerts}${file}`, 'utf8')),
    );
    for (const [, name] of (rules as string).matchAll(/- alert: (\w+)/g)) {
      expect(tests).toMatch(new RegExp(`alertname: ${name}\\n +exp_alerts:\\n`));
      expect(tests).toMatch(new RegExp(`alertname: ${name}, exp_alerts: \\[\\]`));
    }
  });

  it('are of metrics as Prometheus wants them', async () => {
    const text = await renderMetrics(
      daemonStatus({
        lease: {
          subnet: '10.5.1.0/24',
          subnetV6: null,
          publicIp: '192.0.2.1',
          publicIpv6: null,
          expiresAt: '2026-03-02T11:00:00Z',
          secondsLeft: 9,
          fromCache: false,
        },
        backend: {
          type: 'udp',
          device: 'flannel0',
          mtu: 1472,
          peers: [],
          refused: [],
          features: [],
          totals: { tx_packets: 1, tx_segments_le_1: 1, tx_segments_more: 2 },
          drops: { tx_no_route: 1 },
        },
      }),
    );
    const { stdout, stderr, status } = await run(['check', 'metrics'], text);
    expect([stdout, stderr, status]).toEqual(['', '', 0]);
  });
});
