import type { Site } from '../network/site.js';
import type { Settings, Suite, SuitePlan } from './suite.js';
import { flood, idlePing, type Place, tcp } from './traffic.js';
import { trafficSuite } from './traffic-suite.js';

const SUITE = 'families';

const CONTENDERS = [
  ...['direct', 'direct-v6', 'vxlan', 'vxlan-v6'],
  ...['tweed', 'tweed-v6-on-v4', 'tweed-v4-on-v6', 'tweed-v6-on-v6'],
];

/** What IPv6 costs, among containers and among hosts, beside IPv4 in the same rounds. */
export function familiesSuite(site: Site): Suite<Place> {
  return trafficSuite(site, SUITE, 'IPv4 and IPv6, inside and outside', plans);
}

function plans({ quick, rounds, seconds, underlays }: Settings): SuitePlan<Place>[] {
  if (quick || !underlays.includes('whole')) return [];
  const measurements = [
    tcp('tcp-1', 'TCP, one stream', { seconds: 2 * seconds }),
    flood('flood-64', 'UDP, 64 B, as many as the sender can', { seconds, length: 64 }),
    idlePing('ping', 'ping, idle', { count: 50, intervalMs: 10 }),
  ];
  const twice = { contender: 'tweed', measurements: ['tcp-1'] };
  return [{ suite: SUITE, underlay: 'whole', rounds, contenders: CONTENDERS, measurements, twice }];
}
