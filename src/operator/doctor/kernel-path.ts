/** What `tweed doctor` says about the kernel path, when it is asked. */
import type { FeatureStatus } from '../../backend/backend.js';
import { type ExecResult, exec } from '../../base/exec.js';
import { hasFormerFilter } from '../../kernel-path/attachment.js';
import { examineKernelPath, type KernelPathReport } from '../../kernel-path/examine.js';
import { type Firewall, obstacleToDirect, readFirewall } from '../../kernel-path/firewall.js';
import type { DaemonStatus } from '../../observe/status.js';
import { type Checks, ok, warn } from './finding.js';

export interface KernelPathFacts {
  readonly reports: readonly KernelPathReport[];
  readonly firewall: Firewall;
  /** Where a filter of an earlier life hangs on the underlay. */
  readonly leftOn: { readonly device: string; readonly port: number } | null;
  /** What each running daemon says of it, of the bridges that packets are spared, and of merging. */
  readonly features: readonly FeatureStatus[];
  readonly bridges: readonly FeatureStatus[];
  readonly merging: readonly FeatureStatus[];
}

const run = (argv: readonly string[], tolerate = false): Promise<ExecResult> => exec(argv, { tolerate });

export async function gatherKernelPathFacts(
  statuses: readonly DaemonStatus[],
  underlay: string | null,
  port: number,
): Promise<KernelPathFacts> {
  const all = statuses.flatMap(({ backend }) => backend?.features ?? []);
  const features = all.filter(({ name }) => name === 'kernel_path');
  const left = underlay !== null && features.every(({ inForce }) => inForce === 'off');
  return {
    reports: examineKernelPath(),
    firewall: await readFirewall(run),
    leftOn: left && (await hasFormerFilter(underlay, port)) ? { device: underlay, port } : null,
    features,
    bridges: all.filter(({ name }) => name === 'kernel_path_bridges'),
    merging: all.filter(({ name }) => name === 'kernel_path_merge'),
  };
}

export const kernelPathChecks: Checks<KernelPathFacts> = {
  'kernel-path': ({ reports, firewall }) =>
    reports.map(({ mode, refusal }) => {
      if (refusal !== '') return warn(`-kernel-path=${mode} would not run: ${refusal}`, 'uname -r; tweed status');
      const obstacle = mode === 'direct' ? obstacleToDirect(firewall) : '';
      if (obstacle === '') return ok(`-kernel-path=${mode} would run on this kernel`);
      return warn(
        `-kernel-path=direct would go by route: ${obstacle}`,
        'sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1',
      );
    }),
  'kernel-path-daemon': ({ features }) =>
    features.map(({ wanted, inForce, reason }) =>
      reason === ''
        ? ok(`the daemon’s kernel path is ${inForce}, as wanted (${wanted})`)
        : warn(`the daemon’s kernel path is ${inForce} where ${wanted} is wanted: ${reason}`, 'tweed status'),
    ),
  'kernel-path-bridges': ({ bridges }) =>
    bridges.map(({ inForce, reason }) =>
      reason === ''
        ? ok(`bridges that the kernel path spares packets: ${inForce}`)
        : warn(`the kernel path spares packets no bridge, or not each: ${reason}`, 'tweed status'),
    ),
  'kernel-path-merge': ({ merging }) =>
    merging.map(({ inForce, reason }) =>
      reason === ''
        ? ok(`single packets of TCP are merged on the kernel path: ${inForce}`)
        : warn(`single packets of TCP are not merged on the kernel path: ${reason}`, 'tweed status'),
    ),
  'kernel-path-left': ({ leftOn }) =>
    leftOn === null
      ? null
      : warn(
          `a filter of an earlier kernel path hangs on ${leftOn.device} and takes packets`,
          `tc filter del dev ${leftOn.device} ingress pref ${leftOn.port}`,
        ),
};

/** The programs and what the verifier says, for people. */
export function renderPrograms(reports: readonly KernelPathReport[]): string {
  return reports
    .flatMap(({ mode, refusal, programs }) => [
      `── mode ${mode}${refusal === '' ? '' : `: ${refusal}`}`,
      ...programs.flatMap(({ name, listing, verifierLog }) => [
        `── ${name}`,
        listing.trimEnd(),
        `── the verifier on ${name}`,
        verifierLog.trimEnd(),
      ]),
    ])
    .join('\n');
}
