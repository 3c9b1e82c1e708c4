import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { BackendStatus } from '../backend/backend.js';
import { type Histogram, splitTotals } from './histograms.js';
import type { DaemonStatus, StatusSource } from './status.js';

type Labels = Readonly<Record<string, string>>;
type Sample = readonly [Labels, number];

/**
 * Everything that `tweed status` knows, in Prometheus' text format.
 *
 * The counters live in the forwarders' shared memory. At every scrape they are read once and handed over whole, so no
 * second copy can drift from them, and a peer that is gone is gone from the metrics too.
 */
export class Metrics {
  /** Node's own: CPU time, memory, descriptors, event loop. */
  readonly #process = new Registry();
  #rendering: Promise<string> | null = null;

  constructor(private readonly status: StatusSource) {
    collectDefaultMetrics({ register: this.#process });
  }

  readonly contentType = Registry.PROMETHEUS_CONTENT_TYPE;

  /** All who ask at a time get one and the same text: however many they are, it is made once. */
  render(): Promise<string> {
    this.#rendering ??= this.#render().finally(() => {
      this.#rendering = null;
    });
    return this.#rendering;
  }

  async #render(): Promise<string> {
    return `${await renderMetrics(this.status())}\n${await this.#process.metrics()}`;
  }
}

/** One status in Prometheus' text format. */
export async function renderMetrics(status: DaemonStatus): Promise<string> {
  const histograms = splitTotals(status.backend?.totals ?? {}).histograms;
  return `${await renderFamilies(status)}${histograms.map(renderHistogram).join('')}`;
}

/**
 * prom-client's histograms want every reading, and here they are counted already. There is no `_sum`: the forwarders
 * keep none, and quantiles do not need it.
 */
function renderHistogram({ name, buckets, count }: Histogram): string {
  const family = `tweed_${name}`;
  const lines = buckets.map((bucket) => `${family}_bucket{le="${bucket.upTo}"} ${bucket.count}`);
  const help = `# HELP ${family} Distribution of ${name.replaceAll('_', ' ')}.\n# TYPE ${family} histogram\n`;
  return `\n${help}${lines.join('\n')}\n${family}_bucket{le="+Inf"} ${count}\n${family}_count ${count}\n`;
}

function renderFamilies(status: DaemonStatus): Promise<string> {
  const registry = new Registry();
  const gauge = (name: string, help: string, samples: readonly Sample[]) => {
    if (samples.length === 0) return;
    const metric = new Gauge({ name, help, labelNames: labelNames(samples), registers: [registry] });
    for (const [labels, value] of samples) metric.set(labels, value);
  };
  const counter = (name: string, help: string, samples: readonly Sample[]) => {
    if (samples.length === 0) return;
    const metric = new Counter({ name, help, labelNames: labelNames(samples), registers: [registry] });
    for (const [labels, value] of samples) metric.inc(labels, value);
  };
  const one = (value: number | null): Sample[] => (value === null ? [] : [[{}, value]]);

  gauge('tweed_info', 'Version of the daemon; always 1.', [[{ version: status.version }, 1]]);
  gauge('tweed_ready', 'Whether the overlay is up: 1 or 0.', one(Number(status.ready)));
  gauge('tweed_phase_info', 'Where the daemon is in its life; always 1.', [[{ phase: status.phase }, 1]]);
  gauge('tweed_start_time_seconds', 'When the daemon started, Unix time.', one(Date.parse(status.startedAt) / 1000));
  gauge('tweed_registry_connected', 'Whether the registry answers: 1 or 0.', [
    [{ kind: status.registry.kind }, Number(status.registry.connected)],
  ]);
  counter(
    'tweed_repairs_total',
    'Addresses, routes and rules put back after somebody removed them.',
    one(status.repairs),
  );
  gauge('tweed_warnings', 'How many things are amiss though the daemon runs.', one(status.warnings.length));
  counter(
    'tweed_unforeseen_errors_total',
    'Errors that nobody foresaw and that were survived; the log has their stacks.',
    one(status.unforeseenErrors),
  );
  counter(
    'tweed_log_lines_lost_total',
    'Lines of the log that could not be written and did not find room to wait.',
    one(status.log.lost),
  );
  gauge('tweed_log_lines_waiting', 'Lines of the log that wait to be written.', one(status.log.waiting));
  const { lease, underlay, backend } = status;
  if (lease !== null) {
    gauge('tweed_lease_info', 'The subnet of this host; always 1.', [
      [
        {
          subnet: lease.subnet,
          subnet_v6: lease.subnetV6 ?? '',
          public_ip: lease.publicIp,
          public_ipv6: lease.publicIpv6 ?? '',
          network: status.network ?? '',
          network_v6: status.networkV6 ?? '',
        },
        1,
      ],
    ]);
    const expiry = lease.expiresAt === null ? null : Date.parse(lease.expiresAt) / 1000;
    gauge(
      'tweed_lease_from_cache',
      'Whether the lease was taken from the cache and not yet confirmed by the registry: 1 or 0.',
      one(Number(lease.fromCache)),
    );
    gauge('tweed_lease_expiry_time_seconds', 'When the lease ends unless renewed, Unix time.', one(expiry));
  }
  gauge('tweed_underlay_mtu_bytes', 'MTU of the interface between hosts.', one(underlay?.mtu ?? null));
  if (backend !== null) {
    gauge('tweed_device_mtu_bytes', 'MTU of the overlay.', [
      [{ device: backend.device, backend: backend.type }, backend.mtu],
    ]);
    for (const [name, count] of splitTotals(backend.totals).counters) {
      counter(`tweed_${name}_total`, `Running total of ${name.replaceAll('_', ' ')}.`, one(count));
    }
    counter(
      'tweed_dropped_packets_total',
      'Packets dropped, by reason.',
      Object.entries(backend.drops).map(([reason, count]) => [{ reason }, count]),
    );
    addPeers(backend, gauge, counter);
    gauge(
      'tweed_feature_info',
      'What was wanted of an offload, the threads or a buffer, what is in force, and why they differ; always 1.',
      backend.features.map(({ name, wanted, inForce, reason }) => [
        { feature: name, wanted, in_force: inForce, reason },
        1,
      ]),
    );
  }
  return registry.metrics();
}

type Family = (name: string, help: string, samples: readonly Sample[]) => void;

function addPeers(backend: BackendStatus, gauge: Family, counter: Family): void {
  gauge('tweed_peers', 'Subnets of other hosts that packets can be sent to.', [[{}, backend.peers.length]]);
  const labelled = backend.peers.map((peer) => [{ peer: peer.publicIp, subnet: peer.subnet }, peer] as const);
  const families = [
    ['tweed_peer_transmit_packets_total', 'Packets sent to the peer.', 'txPackets'],
    ['tweed_peer_transmit_bytes_total', 'Bytes sent to the peer.', 'txBytes'],
    ['tweed_peer_receive_packets_total', 'Packets received from the peer.', 'rxPackets'],
    ['tweed_peer_receive_bytes_total', 'Bytes received from the peer.', 'rxBytes'],
  ] as const;
  for (const [name, help, member] of families) {
    counter(
      name,
      help,
      labelled.flatMap(([labels, peer]) => (peer[member] === null ? [] : [[labels, peer[member]]])),
    );
  }
  gauge(
    'tweed_peer_last_receive_time_seconds',
    'When the last packet came from the peer, Unix time; absent when none came.',
    labelled.flatMap(([labels, { lastReceived }]) => (lastReceived === null ? [] : [[labels, lastReceived / 1000]])),
  );
  gauge(
    'tweed_peer_last_handshake_time_seconds',
    'When the session with the peer was made, Unix time; absent when there is none, or nothing is encrypted.',
    labelled.flatMap(([labels, { lastHandshake }]) =>
      typeof lastHandshake === 'number' ? [[labels, lastHandshake / 1000] satisfies Sample] : [],
    ),
  );
}

function labelNames(samples: readonly Sample[]): string[] {
  return Object.keys(samples[0]?.[0] ?? {});
}
