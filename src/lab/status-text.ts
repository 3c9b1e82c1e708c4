import { plural } from '../base/plural.js';
import { ofFamilies } from './options.js';
import type { LabStatus } from './status.js';

/** The status as people read it. */
export function formatStatus(status: LabStatus): string {
  const { options, registry } = status;
  const lines = [
    `lab ${status.name}: ${status.healthy ? 'up' : 'NOT WHOLE'}, ${options.backend} over ${ofFamilies(options.ipFamilies, options.network, options.networkV6).join(', ')}`,
    `registry: ${registry.kind}${registry.kind === 'etcd' ? `, ${state(registry.pid)}, log ${registry.log}` : ''}`,
  ];
  for (const place of status.places)
    if (!place.exists) lines.push(`${place.name}: namespace ${place.namespace} is GONE`);
  for (const host of status.hosts) {
    const { daemon } = host;
    const ready = daemon.ready === null ? '' : daemon.ready ? ', ready' : ', NOT READY';
    const peers = daemon.peers === null ? '' : `, ${plural(daemon.peers, 'peer')}`;
    lines.push(
      '',
      `${host.name}  ${host.addresses.join(', ')}  namespace ${host.namespace}${host.exists ? '' : ' is GONE'}`,
      `  daemon ${state(daemon.pid)}${ready}${peers}, log ${daemon.log}`,
      `  subnet ${host.subnets.join(', ') || 'none yet'}${host.mtu === null ? '' : `, MTU ${host.mtu}`}`,
    );
    for (const container of host.containers) {
      const mode = container.mode === 'bridge' ? '' : `  mode ${container.mode}`;
      const gone = container.exists ? '' : ' is GONE';
      lines.push(
        `  ${container.name}  ${container.addresses.join(', ') || '-'}  namespace ${container.namespace}${gone}${mode}`,
      );
    }
  }
  if (status.publications.length > 0) lines.push('');
  for (const { host, hostPort, targetHost, targetContainer, targetPort } of status.publications) {
    lines.push(`published: ${host}:${hostPort} → ${targetHost}/${targetContainer}:${targetPort}`);
  }
  return lines.join('\n');
}

function state(pid: number | null): string {
  return pid === null ? 'NOT RUNNING' : `pid ${pid}`;
}
