import { peers } from '../contenders/peers/all.js';
import type { Site } from '../network/site.js';
import type { Settings, Suite, SuitePlan } from './suite.js';
import { flood, idlePing, type Place, tcp } from './traffic.js';
import { trafficSuite } from './traffic-suite.js';

const SUITE = 'peers';

/** What a user might pick instead, where it is installed. */
export function peersSuite(site: Site): Suite<Place> {
  return trafficSuite(site, SUITE, 'other tunnels', plans);
}

function plans({ quick, rounds, seconds }: Settings): SuitePlan<Place>[] {
  const measurements = [
    tcp('tcp-1', 'TCP, one stream', { seconds }),
    tcp('tcp-4', 'TCP, four streams', { seconds, streams: 4 }),
    flood('flood-64', 'UDP, 64 B, as many as the sender can', { seconds, length: 64 }),
    idlePing('ping', 'ping, idle', { count: 50, intervalMs: 10 }),
  ];
  if (quick) return [];
  return [
    {
      suite: SUITE,
      underlay: 'whole',
      rounds,
      contenders: ['direct', 'vxlan', 'tweed', 'tweed-wireguard', ...peers.map(({ id }) => id)],
      measurements,
    },
  ];
}
