import { Baselines, cacheEvictor } from '../crossings/baselines.js';
import { type CacheState, Crossings } from '../crossings/crossings.js';
import type { ContenderInfo, Metric, Values } from '../harness/results.js';
import type { Measurement, Settings, Suite, SuitePlan } from './suite.js';

export const CROSSINGS = 'crossings';
/** Lengths of inner packets, in bytes, headers included: up to the tunnel's MTU, and beyond it as super-packets. */
const PACKETS = [64, 128, 256, 512, 768, 1024, 1280, 1472];
const SUPER_PACKETS = [1472, 4096, 8192, 16_384, 32_768, 49_152, 63_488];
const COLD_PACKETS = [64, 1472];
const COLD_SUPER_PACKETS = [1472, 16_384, 63_488];
const BURSTS: Readonly<Record<CacheState, number>> = { warm: 30, cold: 15 };
const BASELINE_REPEATS = 200;
const WARM_UPS = 3;
/** Shorter than any traffic test, so there can be more of them. */
const ROUNDS_FACTOR = 3;
const SECONDS: Readonly<Record<CacheState, number>> = { warm: 0.1, cold: 0.25 };

/** Makes the measurement of one length, whatever that means for a contender. */
interface Place {
  measure(length: number, cache: CacheState): Values;
}

const CONTENDERS: readonly ContenderInfo[] = [
  {
    id: 'single',
    title: 'one packet per call',
    description: 'the daemon’s forwarders with every offload off: each packet crosses by itself',
    encrypted: false,
    features: {},
    unavailable: '',
  },
  {
    id: 'super',
    title: 'super-packets',
    description: 'the daemon’s forwarders as shipped: what is longer than a packet crosses in one piece',
    encrypted: false,
    features: {},
    unavailable: '',
  },
  {
    id: 'baseline',
    title: 'calls without packets',
    description: 'a call that does nothing, the cheapest system call, devices and memory files',
    encrypted: false,
    features: {},
    unavailable: '',
  },
];

export const crossingsSuite: Suite<Place> = {
  id: CROSSINGS,
  title: 'what each crossing between user and kernel space costs',
  ownContenders: true,
  plans,
  async open({ defer, progress }) {
    progress.step('setting up the crossings');
    const evict = cacheEvictor();
    const places = new Map<string, Place>();
    for (const mode of ['single', 'super'] as const) {
      const crossings = await Crossings.up(mode, evict);
      defer(() => crossings.down());
      places.set(mode, {
        measure(length, cache) {
          const timings = crossings.measure(length, BURSTS[cache], cache);
          return flatten(timings.map(({ variant, ...timing }) => ({ ...timing, part: `${timing.part}.${variant}` })));
        },
      });
    }
    const baselines = new Baselines();
    defer(async () => baselines.close());
    places.set('baseline', { measure: (length) => flatten(baselines.measure(length, BASELINE_REPEATS)) });
    // the compiler has to see everything once, and nobody wants to know how long that takes
    for (let i = 0; i < WARM_UPS; i++) {
      places.get('single')?.measure(PACKETS[PACKETS.length - 1] as number, 'warm');
      for (const length of SUPER_PACKETS) places.get('super')?.measure(length, 'warm');
      places.get('baseline')?.measure(PACKETS[0] as number, 'warm');
    }
    return { contenders: CONTENDERS, places };
  },
};

/** Values by `part.variant.clock`, the median of the calls; `….mean` is their mean. */
function flatten(timings: readonly { part: string; clock: string; median: number; mean: number }[]): Values {
  return Object.fromEntries(
    timings.flatMap(({ part, clock, median, mean }) => [
      [`${part}.${clock}`, median],
      [`${part}.${clock}.mean`, mean],
    ]),
  );
}

function plans({ quick, rounds }: Settings): SuitePlan<Place>[] {
  const few = (lengths: readonly number[]) => lengths.filter((_, i) => i % 3 === 0 || i === lengths.length - 1);
  const chosen = (lengths: readonly number[]) => (quick ? few(lengths) : lengths);
  const single = { warm: chosen(PACKETS), cold: quick ? [] : COLD_PACKETS };
  const large = { warm: chosen(SUPER_PACKETS), cold: quick ? [] : COLD_SUPER_PACKETS };
  const lengthsOf = (cache: CacheState) => [...new Set([...single[cache], ...large[cache]])].sort((a, b) => a - b);
  const belongs = (measurement: string, contender: string): boolean => {
    const [cache, length] = measurement.split('-') as [CacheState, string];
    if (contender === 'baseline') return cache === 'warm';
    return (contender === 'single' ? single : large)[cache].includes(Number(length));
  };
  return [
    {
      suite: CROSSINGS,
      underlay: '',
      rounds: quick ? rounds : rounds * ROUNDS_FACTOR,
      contenders: CONTENDERS.map(({ id }) => id),
      measurements: (['warm', 'cold'] as const).flatMap((cache) =>
        lengthsOf(cache).map((length) => measurement(length, cache)),
      ),
      skip: (id, contender) => !belongs(id, contender),
    },
  ];
}

function measurement(length: number, cache: CacheState): Measurement<Place> {
  return {
    id: `${cache}-${length}`,
    title: `${length} B, caches ${cache}`,
    seconds: SECONDS[cache],
    metrics: METRICS,
    run: async (place) => place.measure(length, cache),
  };
}

const METRICS: readonly Metric[] = [
  ['app-send.full', 'application send'],
  ['tun-read.full', 'TUN read'],
  ['tx-work.full', 'daemon, sending'],
  ['udp-send.full', 'UDP send'],
  ['udp-receive.full', 'UDP receive'],
  ['rx-work.full', 'daemon, receiving'],
  ['tun-write.full', 'TUN write'],
  ['app-receive.full', 'application receive'],
  ['nothing', 'call of nothing'],
  ['getppid', 'getppid'],
].map(([id, title]) => ({ id: `${id}.wall`, title: title as string, unit: 'ns', better: 'less', digits: 0 }) as const);
