import type { DaemonStatus } from '../../../src/observe/status.js';

/** The status of a daemon that is well and has no peer. */
export function daemonStatus(more: Partial<DaemonStatus> = {}): DaemonStatus {
  return {
    schema: 1,
    version: '1.2.3',
    process: 4711,
    networkNamespace: 0,
    startedAt: '2026-03-01T11:00:00Z',
    phase: 'running',
    detail: '',
    ready: true,
    logLevel: 'info',
    network: '100.96.0.0/16',
    networkV6: null,
    port: 8285,
    portV6: null,
    lease: null,
    underlay: null,
    registry: { kind: 'etcd', endpoints: [], connected: true, error: '' },
    backend: {
      type: 'udp',
      device: 'flannel0',
      mtu: 1472,
      peers: [],
      refused: [],
      features: [],
      totals: {},
      drops: {},
    },
    warnings: [],
    repairs: 0,
    unforeseenErrors: 0,
    log: { lost: 0, waiting: 0, error: '' },
    ...more,
  };
}
