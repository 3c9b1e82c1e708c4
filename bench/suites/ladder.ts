import type { Metric, Values } from '../harness/results.js';
import { SyscallCounter } from '../harness/syscall-counter.js';
import type { Site } from '../network/site.js';
import type { Settings, Suite, SuitePlan } from './suite.js';
import { flood, type Place, requests, type TrafficMeasurement, tcp } from './traffic.js';
import { trafficSuite } from './traffic-suite.js';

const SUITE = 'ladder';

/** From below: the same wire format handled better and better, then the kernel, for scale. */
export const RUNGS = ['dgram', 'tweed-off', 'batched', 'tweed', 'kernel-route', 'kernel-direct', 'vxlan', 'direct'];

const COSTS: readonly Metric[] = [
  { id: 'callsPerPacket', title: 'system calls', unit: 'per packet', better: 'less', digits: 3 },
  { id: 'switchesPerPacket', title: 'context switches', unit: 'per packet', better: 'less', digits: 4 },
  { id: 'copiesPerByte', title: 'bytes copied', unit: 'per byte', better: 'less', digits: 2 },
  { id: 'userPerGb', title: 'user CPU', unit: 's/GB', better: 'less', digits: 2 },
  { id: 'systemPerGb', title: 'system CPU', unit: 's/GB', better: 'less', digits: 2 },
];

/** What each step buys. */
export function ladderSuite(site: Site): Suite<Place> {
  return trafficSuite(site, SUITE, 'one wire format, climbing', plans);
}

function plans({ quick, rounds, seconds }: Settings): SuitePlan<Place>[] {
  const measurements = [
    withPacketCosts(tcp('tcp-1', 'TCP, one stream', { seconds })),
    flood('flood-64', 'UDP, 64 B, as many as the sender can', { seconds, length: 64 }),
    requests('udp-rr', 'UDP request and response, 64 B', { kind: 'udp', seconds: seconds / 2, bytes: 64 }),
  ];
  return [
    {
      suite: SUITE,
      underlay: 'whole',
      rounds: quick ? Math.min(3, rounds) : rounds,
      contenders: quick ? RUNGS.filter((id) => !id.startsWith('kernel-')) : RUNGS,
      measurements: quick ? measurements.slice(0, 1) : measurements,
    },
  ];
}

function withPacketCosts(measurement: TrafficMeasurement): TrafficMeasurement {
  return {
    ...measurement,
    metrics: [...measurement.metrics, ...COSTS],
    async run(place) {
      const values = await measurement.run(place);
      return { ...values, ...packetCosts(values), ...(await countCalls(place, measurement)) };
    },
  };
}

/**
 * System calls per packet, of the same traffic once more: counting makes every call a little longer, so that it would
 * slow down most who makes most of them.
 */
async function countCalls(place: Place, { run }: TrafficMeasurement): Promise<Values> {
  const { pids } = place.running;
  const counter = pids.length > 0 ? await SyscallCounter.start(pids) : null;
  if (counter === null) return {};
  let calls = 0;
  let values: Values;
  try {
    values = await run(place);
  } finally {
    calls = counter.stop();
  }
  const packets = packetCosts(values).wirePackets;
  return packets === undefined ? {} : { callsPerPacket: calls / packets };
}

/**
 * What a packet on the wire, and a byte of payload, took from user space.
 *
 * Without a daemon, payload crosses the boundary twice: from the sending program and to the receiving one. A daemon adds
 * what it reads from and writes to its devices, and what it sends and receives by UDP. Its own counters tell the latter;
 * an engine without counters sends what it reads, packet by packet.
 */
export function packetCosts(values: Values): Values {
  const { bytes, deviceBytes, devicePackets, contextSwitches, daemonUser, daemonSystem } = values;
  if (bytes === undefined || deviceBytes === undefined || devicePackets === undefined) return { copiesPerByte: 2 };
  const sent = values['counter:tx_bytes'];
  const udpBytes = sent === undefined ? deviceBytes : sent + (values['counter:rx_bytes'] ?? 0);
  // every packet passes two devices; a super-packet counts there once, so tweed's own count of datagrams is taken
  const packets = values['counter:tx_packets'] ?? devicePackets / 2;
  return {
    wirePackets: packets,
    switchesPerPacket: (contextSwitches ?? 0) / packets,
    copiesPerByte: 2 + (deviceBytes + udpBytes) / bytes,
    userPerGb: ((daemonUser ?? 0) / bytes) * 1e9,
    systemPerGb: ((daemonSystem ?? 0) / bytes) * 1e9,
  };
}
