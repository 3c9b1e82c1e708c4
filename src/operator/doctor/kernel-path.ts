/** What `tweed doctor` says about the kernel path, when it is asked. */
import { type ExecResult, exec } from '../../base/exec.js';
import { hasFormerFilter } from '../../kernel-path/attachment.js';
import { examineKernelPath, type KernelPathReport } from '../../kernel-path/examine.js';
import { type Firewall, obstacleToDirect, readFirewall } from '../../kernel-path/firewall.js';
import type { DaemonStatus } from '../../observe/status.js';
import { type Check, ok, warn } from './finding.js';

export interface KernelPathFacts {
  readonly reports: readonly KernelPathReport[];
  readonly firewall: Firewall;
  /** Where a filter of an earlier life hangs on the underlay. */
  readonly leftOn: { readonly device: string; readonly port: number } | null;
  /** What the running daemon says of it; null where none runs. */
  readonly feature: { readonly wanted: string; readonly inForce: string; readonly reason: string } | null;
}

const run = (argv: readonly string[], tolerate = false): Promise<ExecResult> => exec(argv, { tolerate });

export async function gatherKernelPathFacts(
  status: DaemonStatus | null,
  underlay: string | null,
  port: number,
): Promise<KernelPathFacts> {
  const feature = status?.backend?.features.find(({ name }) => name === 'kernel_path') ?? null;
  const left = underlay !== null && feature?.inForce !== 'route' && feature?.inForce !== 'direct';
  return {
    reports: examineKernelPath(),
    firewall: await readFirewall(run),
    leftOn: left && (await hasFormerFilter(underlay, port)) ? { device: underlay, port } : null,
    feature,
  };
}

export const kernelPathChecks: readonly Check<KernelPathFacts>[] = [
  {
    id: 'kernel-path',
    evaluate: ({ reports, firewall }) =>
      reports.map(({ mode, refusal }) => {
        if (refusal !== '') return warn(`-kernel-path=${mode} would not run: ${refusal}`, 'uname -r; tweed status');
        const obstacle = mode === 'direct' ? obstacleToDirect(firewall) : '';
        if (obstacle === '') return ok(`-kernel-path=${mode} would run on this kernel`);
        return warn(
          `-kernel-path=direct would go by route: ${obstacle}`,
          'sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1',
        );
      }),
  },
  {
    id: 'kernel-path-daemon',
    evaluate: ({ feature }) => {
      if (feature === null) return null;
      const { wanted, inForce, reason } = feature;
      if (reason === '') return ok(`the daemon’s kernel path is ${inForce}, as wanted (${wanted})`);
      return warn(`the daemon’s kernel path is ${inForce} where ${wanted} is wanted: ${reason}`, 'tweed status');
    },
  },
  {
    id: 'kernel-path-left',
    evaluate: ({ leftOn }) =>
      leftOn === null
        ? null
        : warn(
            `a filter of an earlier kernel path hangs on ${leftOn.device} and takes packets`,
            `tc filter del dev ${leftOn.device} ingress pref ${leftOn.port}`,
          ),
  },
];

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
