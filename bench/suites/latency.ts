import type { Site } from '../network/site.js';
import type { Settings, Suite, SuitePlan } from './suite.js';
import { type Place, requests } from './traffic.js';
import { trafficSuite } from './traffic-suite.js';

const SUITE = 'latency';
const BYTES = 64;
const CONTENDERS = ['direct', 'vxlan', 'kernel-direct', 'kernel-route', 'tweed', 'tweed-off'];

/** Request and response, and how many connections a second can be made. */
export function latencySuite(site: Site): Suite<Place> {
  return trafficSuite(site, SUITE, 'requests, responses, connections', plans);
}

function plans({ quick, rounds, seconds }: Settings): SuitePlan<Place>[] {
  const each = seconds / 2;
  const measurements = [
    requests('udp-rr', 'UDP request and response, 64 B', { kind: 'udp', seconds: each, bytes: BYTES }),
    requests('tcp-rr', 'TCP request and response, 64 B', { kind: 'tcp', seconds: each, bytes: BYTES }),
    requests('tcp-crr', 'TCP connect, request, response, close', { kind: 'connect', seconds: each, bytes: BYTES }),
  ];
  return [
    {
      suite: SUITE,
      underlay: 'whole',
      rounds,
      contenders: quick ? CONTENDERS.filter((id) => !id.startsWith('kernel-')) : CONTENDERS,
      measurements: quick ? measurements.slice(0, 1) : measurements,
      twice: { contender: 'tweed', measurements: ['udp-rr'] },
    },
  ];
}
