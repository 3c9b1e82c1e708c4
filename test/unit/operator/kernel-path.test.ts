import { describe, expect, it } from 'vitest';
import type { FeatureStatus } from '../../../src/backend/backend.js';
import type { KernelPathReport } from '../../../src/kernel-path/examine.js';
import { runChecks } from '../../../src/operator/doctor/finding.js';
import { type KernelPathFacts, kernelPathChecks, renderPrograms } from '../../../src/operator/doctor/kernel-path.js';

const report = (mode: 'route' | 'direct', refusal = ''): KernelPathReport => ({
  mode,
  refusal,
  programs: [
    { name: 'tweed_encap', listing: '0: exit\n', accepted: refusal === '', verifierLog: 'processed 1 insns\n' },
  ],
});
const fine: KernelPathFacts = {
  reports: [report('route'), report('direct')],
  firewall: { rules: '', liberal: false },
  leftOn: null,
  features: [],
  bridges: [],
  merging: [],
};
const levels = (facts: Partial<KernelPathFacts>) =>
  runChecks(kernelPathChecks, { ...fine, ...facts }).map(({ id, level, text, fix }) => [`${id} ${level}`, text, fix]);

const merge = (inForce: string, reason = '', wanted = 'auto'): FeatureStatus => ({
  ...{ name: 'kernel_path_merge', wanted, inForce, reason },
});

describe('doctor about the kernel path', () => {
  it('says that it would run', () => {
    expect(levels({})).toEqual([
      ['kernel-path ok', '-kernel-path=route would run on this kernel', ''],
      ['kernel-path ok', '-kernel-path=direct would run on this kernel', ''],
    ]);
  });

  it('says why it would not', () => {
    const found = levels({ reports: [report('route', 'EPERM'), report('direct', 'no types')] });
    expect(found.map(([id, text]) => [id, text])).toEqual([
      ['kernel-path warn', '-kernel-path=route would not run: EPERM'],
      ['kernel-path warn', '-kernel-path=direct would not run: no types'],
    ]);
  });

  it('names the rule that keeps direct from running, and what would do', () => {
    const [, direct] = levels({ firewall: { rules: 'ct state invalid drop', liberal: false } });
    expect(direct).toEqual([
      'kernel-path warn',
      expect.stringMatching(/would go by route: the rule "ct state invalid drop"/),
      expect.stringMatching(/be_liberal=1/),
    ]);
  });

  it('tells what the daemon has, and what an earlier one left', () => {
    const found = levels({
      features: [{ name: 'kernel_path', wanted: 'direct', inForce: 'route', reason: 'a rule' }],
      leftOn: { device: 'eth0', port: 8285 },
    }).slice(2);
    expect(found).toEqual([
      ['kernel-path-daemon warn', expect.stringMatching(/is route where direct is wanted: a rule/), expect.any(String)],
      ['kernel-path-left warn', expect.stringMatching(/hangs on eth0/), 'tc filter del dev eth0 ingress pref 8285'],
    ]);
    const good = { name: 'kernel_path', wanted: 'auto', inForce: 'direct', reason: '' };
    expect(levels({ features: [good] })[2]).toEqual(['kernel-path-daemon ok', expect.stringMatching(/is direct/), '']);
  });

  it('tells which bridges packets are spared, or why not', () => {
    const bridges = { name: 'kernel_path_bridges', wanted: 'auto' };
    expect(levels({ bridges: [{ ...bridges, inForce: 'br0 cni0', reason: '' }] })[2]).toEqual([
      'kernel-path-bridges ok',
      expect.stringMatching(/: br0 cni0$/),
      '',
    ]);
    expect(levels({ bridges: [{ ...bridges, inForce: 'none', reason: 'a filter' }] })[2]).toEqual([
      'kernel-path-bridges warn',
      expect.stringMatching(/: a filter$/),
      'tweed status',
    ]);
  });

  it.each<[string, FeatureStatus[], unknown[]]>([
    ['that they are', [merge('on')], [['kernel-path-merge ok', expect.stringMatching(/: on$/), '']]],
    [
      'that they are not, as wanted',
      [merge('off', '', 'off')],
      [['kernel-path-merge ok', expect.stringMatching(/: off$/), '']],
    ],
    [
      'why they are not',
      [merge('off', 'veth devices of this kernel do not merge')],
      [
        [
          'kernel-path-merge warn',
          expect.stringMatching(/not merged .*: veth devices of this kernel do not merge$/),
          'tweed status',
        ],
      ],
    ],
    [
      'each daemon’s answer',
      [merge('on'), merge('off', 'no veth')],
      [
        ['kernel-path-merge ok', expect.stringMatching(/: on$/), ''],
        ['kernel-path-merge warn', expect.stringMatching(/: no veth$/), 'tweed status'],
      ],
    ],
    ['nothing where no kernel path runs', [], []],
  ])('tells of single packets %s', (_, merging, expected) => {
    expect(levels({ merging }).slice(2)).toEqual(expected);
  });

  it('prints the programs', () => {
    expect(renderPrograms([report('route', 'EPERM')])).toBe(
      '── mode route: EPERM\n── tweed_encap\n0: exit\n── the verifier on tweed_encap\nprocessed 1 insns',
    );
  });
});
