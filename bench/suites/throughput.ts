import type { Site } from '../network/site.js';
import type { Settings, Suite, SuitePlan } from './suite.js';
import { flood, idlePing, type Place, type TrafficMeasurement, tcp, udp } from './traffic.js';
import { trafficSuite } from './traffic-suite.js';

const SUITE = 'throughput';
const CONTENDERS = ['direct', 'vxlan', 'kernel-direct', 'kernel-route', 'tweed', 'tweed-off', 'c-loop'];
/** Who is left out of a quick run. */
const SLOWLY = ['c-loop', 'kernel-direct', 'kernel-route'];
/** Who is fast enough for the order of super-packets to matter. */
const ORDERED = ['direct', 'vxlan', 'tweed'];
const ORDERED_SECONDS = 10;

/** What users of tunnels ask first: rates, losses and idle delay, container to container. */
export function throughputSuite(site: Site): Suite<Place> {
  return trafficSuite(site, SUITE, 'container to container: rates, losses, idle delay', plans);
}

function plans({ quick, rounds, seconds, underlays }: Settings): SuitePlan<Place>[] {
  const all = measurements(seconds, quick);
  const quickly = ['tcp-1', 'flood-64', 'ping'];
  const segmented = ['tcp-1', 'tcp-1-reverse', 'tcp-4', 'udp-1400'];
  const plans: SuitePlan<Place>[] = underlays.map((underlay) => {
    const wanted = underlay === 'segmented' ? segmented : all.map(({ id }) => id);
    return {
      suite: SUITE,
      underlay,
      rounds,
      contenders: CONTENDERS.filter((id) => (quick ? !SLOWLY.includes(id) : id !== 'c-loop' || underlay === 'whole')),
      measurements: all.filter(({ id }) => wanted.includes(id) && (!quick || quickly.includes(id))),
      twice: { contender: 'tweed', measurements: ['tcp-1', 'ping'] },
    };
  });
  const ordered = inOrder(
    tcp('tcp-1-ordered', 'TCP, one stream of 10 s, links keep the order', { seconds: ORDERED_SECONDS }),
  );
  const orderedPlan = { suite: SUITE, underlay: 'whole', rounds, contenders: ORDERED, measurements: [ordered] };
  return quick || !underlays.includes('whole') ? plans : [...plans, orderedPlan];
}

/** The same with links on which packets of a flow cannot overtake each other before they reach the tunnel. */
function inOrder(measurement: TrafficMeasurement): TrafficMeasurement {
  return {
    ...measurement,
    async run(place) {
      await place.pair.keepOrder(true);
      try {
        return await measurement.run(place);
      } finally {
        await place.pair.keepOrder(false);
      }
    },
  };
}

function measurements(seconds: number, quick: boolean): TrafficMeasurement[] {
  return [
    // the measurement that most is said about gets twice the time
    tcp('tcp-1', 'TCP, one stream', { seconds: quick ? seconds : 2 * seconds }),
    tcp('tcp-1-reverse', 'TCP, one stream, reverse', { seconds, reverse: true }),
    tcp('tcp-4', 'TCP, four streams', { seconds, streams: 4 }),
    udp('udp-64', 'UDP, 64 B at 40,000 a second', { seconds, length: 64, rate: 40_000 * 64 * 8 }),
    udp('udp-1400', 'UDP, 1400 B at 300 Mbit/s', { seconds, length: 1400, rate: 300e6 }),
    udp('udp-1400-fast', 'UDP, 1400 B at 1 Gbit/s', { seconds, length: 1400, rate: 1e9 }),
    flood('flood-64', 'UDP, 64 B, as many as the sender can', { seconds, length: 64 }),
    idlePing('ping', 'ping, idle', { count: quick ? 20 : 250, intervalMs: 10 }),
  ];
}
