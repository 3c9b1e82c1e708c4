import { flood, idlePing, type Measurement, tcp, udp } from './traffic.js';

/** What issue of all tunnels is measured first: rates, losses and idle delay, container to container. */
export function throughputMeasurements(seconds: number): Measurement[] {
  return [
    tcp('tcp-1', 'TCP, one stream', { seconds }),
    tcp('tcp-1-reverse', 'TCP, one stream, reverse', { seconds, reverse: true }),
    tcp('tcp-4', 'TCP, four streams', { seconds, streams: 4 }),
    udp('udp-64', 'UDP, 64 B at 40,000 a second', { seconds, length: 64, rate: 40_000 * 64 * 8 }),
    udp('udp-1400', 'UDP, 1400 B at 300 Mbit/s', { seconds, length: 1400, rate: 300e6 }),
    udp('udp-1400-fast', 'UDP, 1400 B at 1 Gbit/s', { seconds, length: 1400, rate: 1e9 }),
    flood('flood-64', 'UDP, 64 B as many as the sender can', { seconds, length: 64 }),
    idlePing('ping', 'ping, idle', { count: 100, intervalMs: 10 }),
  ];
}
