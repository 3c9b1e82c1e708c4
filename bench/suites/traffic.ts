/** What is measured by sending traffic from container to container, with the CPU time that it took. */
import type { Running } from '../contenders/contender.js';
import { contextSwitches, cpuOf, machineTime, subtractCpu } from '../harness/cpu.js';
import type { Metric, Values } from '../harness/results.js';
import { arrivedDatagrams } from '../network/counters.js';
import { iperfTcp, iperfUdp } from '../network/iperf.js';
import type { Pair } from '../network/pair.js';
import { ping } from '../network/ping.js';
import { askEcho } from '../network/requests.js';
import { quantile, sortedCopy } from '../stats/summary.js';
import type { Measurement } from './suite.js';

/** A contender that stands ready: its pair, its tunnel, the servers in the second container. */
export interface Place {
  readonly pair: Pair;
  readonly running: Running;
  /** A process that lives in the second container. */
  readonly serverPid: number;
}

/** Set-up and tear-down of one measurement; found by trying. */
const OVERHEAD_SECONDS = 0.4;

export type TrafficMeasurement = Measurement<Place>;

export const RATE: Metric = { id: 'gbps', title: 'rate', unit: 'Gbit/s', better: 'more', digits: 2 };
const RETRANSMITS: Metric = { id: 'retransmits', title: 'retransmits', unit: 'segments', better: 'less', digits: 0 };
const DAEMON_CPU: Metric = { id: 'daemonCpuPerGb', title: 'daemons’ CPU', unit: 's/GB', better: 'less', digits: 2 };
const MACHINE_CPU: Metric = { id: 'machineCpuPerGb', title: 'whole CPU', unit: 's/GB', better: 'less', digits: 2 };
const LOSS: Metric = { id: 'loss', title: 'loss', unit: '%', better: 'less', digits: 2 };
const PACKETS: Metric = { id: 'kpps', title: 'delivered', unit: 'kpps', better: 'more', digits: 1 };
const RTT_P50: Metric = { id: 'rttP50', title: 'p50', unit: 'µs', better: 'less', digits: 0 };
const RTT_P99: Metric = { id: 'rttP99', title: 'p99', unit: 'µs', better: 'less', digits: 0 };
const REQUESTS: Metric = { id: 'perSecond', title: 'done', unit: '1/s', better: 'more', digits: 0 };

export function tcp(
  id: string,
  title: string,
  options: { readonly seconds: number; readonly streams?: number; readonly reverse?: boolean },
): TrafficMeasurement {
  return {
    id,
    title,
    seconds: options.seconds + OVERHEAD_SECONDS,
    metrics: [RATE, RETRANSMITS, DAEMON_CPU, MACHINE_CPU],
    run: (place) =>
      withCosts(place, async () => {
        const [near, far] = place.pair.ends;
        const { bytes, seconds, retransmits } = await iperfTcp(near.container, far.containerAddress, options);
        return { bytes, seconds, gbps: (bytes * 8) / seconds / 1e9, retransmits };
      }),
  };
}

/** @param options `rate` in bits of payload a second */
export function udp(
  id: string,
  title: string,
  options: { readonly seconds: number; readonly length: number; readonly rate: number },
): TrafficMeasurement {
  return {
    id,
    title,
    seconds: options.seconds + OVERHEAD_SECONDS,
    metrics: [PACKETS, LOSS, RATE, DAEMON_CPU],
    run: (place) =>
      withCosts(place, async () => {
        const [near, far] = place.pair.ends;
        const { sent, lost, bytes, seconds } = await iperfUdp(near.container, far.containerAddress, options);
        return {
          bytes,
          seconds,
          sent,
          lost,
          kpps: (sent - lost) / seconds / 1000,
          loss: sent === 0 ? 0 : (100 * lost) / sent,
          gbps: (bytes * 8) / seconds / 1e9,
        };
      }),
  };
}

/**
 * As many small datagrams as the sender can send. What counts is how many reach the far container's UDP layer, whether
 * or not the program there gets round to reading them: on few CPUs it does not.
 */
export function flood(
  id: string,
  title: string,
  options: { readonly seconds: number; readonly length: number },
): TrafficMeasurement {
  return {
    id,
    title,
    seconds: options.seconds + OVERHEAD_SECONDS,
    metrics: [
      { ...PACKETS, title: 'carried' },
      { ...PACKETS, id: 'offeredKpps', title: 'offered', better: 'none' },
      { id: 'daemonNsPerPacket', title: 'daemons’ CPU', unit: 'ns/packet', better: 'less', digits: 0 },
    ],
    run: (place) =>
      withCosts(place, async () => {
        const [near, far] = place.pair.ends;
        const { inner } = place.pair.families;
        const before = await arrivedDatagrams(place.serverPid, inner);
        const { sent, seconds } = await iperfUdp(near.container, far.containerAddress, { ...options, rate: 0 });
        const arrived = (await arrivedDatagrams(place.serverPid, inner)) - before;
        return {
          bytes: arrived * options.length,
          packets: arrived,
          seconds,
          sent,
          kpps: arrived / seconds / 1000,
          offeredKpps: sent / seconds / 1000,
        };
      }),
  };
}

export function idlePing(
  id: string,
  title: string,
  options: { readonly count: number; readonly intervalMs: number },
): TrafficMeasurement {
  return {
    id,
    title,
    seconds: (options.count * options.intervalMs) / 1000 + OVERHEAD_SECONDS,
    metrics: [RTT_P50, RTT_P99],
    async run({ pair }) {
      const [near, far] = pair.ends;
      const times = sortedCopy(await ping(near.container, far.containerAddress, options));
      return {
        rttMin: times[0] as number,
        rttP50: quantile(times, 0.5),
        rttP99: quantile(times, 0.99),
        lost: options.count - times.length,
      };
    },
  };
}

/** One request after the other: a message there, the same message back. */
export function requests(
  id: string,
  title: string,
  options: { readonly kind: 'udp' | 'tcp' | 'connect'; readonly seconds: number; readonly bytes: number },
): TrafficMeasurement {
  return {
    id,
    title,
    seconds: options.seconds + OVERHEAD_SECONDS,
    metrics: [REQUESTS, RTT_P50, RTT_P99],
    async run({ pair }) {
      const [near, far] = pair.ends;
      const {
        requests: count,
        failed,
        seconds,
        p50,
        p90,
        p99,
        max,
      } = await askEcho(near.container, far.containerAddress, options);
      const rtt = { rttP50: p50, rttP90: p90, rttP99: p99, rttMax: max };
      return { requests: count, failed, seconds, perSecond: count / seconds, ...rtt };
    },
  };
}

/** Adds what it cost: CPU time of daemons and machine, context switches, what went over the underlay. */
async function withCosts(place: Place, traffic: () => Promise<Values & { readonly bytes: number }>): Promise<Values> {
  const { pair, running } = place;
  const read = async () => ({
    cpu: await cpuOf(running.pids),
    machine: await machineTime(),
    switches: await contextSwitches(running.pids),
    underlay: await pair.underlayTraffic(),
    device: await pair.deviceTraffic(running.device),
    counters: (await running.counters?.()) ?? {},
  });
  const before = await read();
  const values = await traffic();
  const after = await read();
  const cpu = subtractCpu(after.cpu, before.cpu);
  const machineCpu = after.machine.busy - before.machine.busy;
  const gigabytes = values.bytes / 1e9;
  return {
    ...values,
    ...(running.pids.length > 0 && {
      daemonCpu: cpu.total,
      daemonUser: cpu.user,
      daemonSystem: cpu.system,
      daemonCpuPerGb: cpu.total / gigabytes,
      contextSwitches: after.switches - before.switches,
      ...(values.packets !== undefined && { daemonNsPerPacket: (cpu.total * 1e9) / values.packets }),
    }),
    machineCpu,
    machineCpuPerGb: machineCpu / gigabytes,
    stolen: after.machine.stolen - before.machine.stolen,
    underlayPackets: after.underlay.packets - before.underlay.packets,
    underlayBytes: after.underlay.bytes - before.underlay.bytes,
    ...(before.device !== null &&
      after.device !== null && {
        devicePackets: after.device.packets - before.device.packets,
        deviceBytes: after.device.bytes - before.device.bytes,
      }),
    ...differences(before.counters, after.counters),
  };
}

/** What the contender's own counters moved by; those that stood still are left out. */
function differences(before: Values, after: Values): Values {
  const moved: Record<string, number> = {};
  for (const [name, value] of Object.entries(after)) {
    const difference = value - (before[name] ?? 0);
    if (difference !== 0) moved[`counter:${name}`] = difference;
  }
  return moved;
}
