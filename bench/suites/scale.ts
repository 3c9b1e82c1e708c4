import type { ContenderInfo, Metric } from '../harness/results.js';
import { type Families, LeaseArrival } from '../scale/lease-arrival.js';
import { linearLookup, tableLookup } from '../scale/lookup.js';
import type { Measurement, Settings, Suite, SuitePlan } from './suite.js';

const SUITE = 'scale';
const HOSTS = [10, 100, 1000, 10_000, 65_536];
const LEASES = [1000, 3000, 10_000];
const FAMILIES: readonly Families[] = ['ipv4', 'dual'];

const NS: Metric = { id: 'ns', title: 'per lookup', unit: 'ns', better: 'less', digits: 1 };
const ARRIVAL: readonly Metric[] = [
  { id: 'seconds', title: 'until all are known', unit: 's', better: 'less', digits: 2 },
  { id: 'cpuSeconds', title: 'daemon’s CPU', unit: 's', better: 'less', digits: 2 },
  { id: 'kilobytesPerLease', title: 'memory', unit: 'KB/lease', better: 'less', digits: 2 },
];

/** A table of one kind, or a daemon. */
interface Place {
  /** Nanoseconds per lookup among so many hosts. */
  lookup?(hosts: number): number;
  arrival?: LeaseArrival;
}

const CONTENDERS: readonly ContenderInfo[] = [
  { id: 'table', title: 'tweed’s table', description: 'src/encap/forwarding/prefix-table.ts' },
  { id: 'list', title: 'a list', description: 'one entry after the other, as flannel’s own proxy does, in JavaScript' },
  { id: 'daemon', title: 'the daemon', description: 'tweed run; the leases of other hosts appear in etcd all at once' },
].map((info) => ({ ...info, encrypted: false, features: {}, unavailable: '' }));

/** What many hosts cost. */
export const scaleSuite: Suite<Place> = {
  id: SUITE,
  title: 'many hosts',
  ownContenders: true,
  plans,
  async open({ progress, defer }) {
    progress.step('setting up the scale suite');
    const places = new Map<string, Place>([
      ['table', { lookup: tableLookup() }],
      ['list', { lookup: linearLookup }],
    ]);
    const reason = await LeaseArrival.unavailable();
    if (reason === '') {
      const arrival = await LeaseArrival.up();
      defer(() => arrival.down());
      places.set('daemon', { arrival });
    } else {
      progress.note(`• without the arrival of leases: ${reason}`);
    }
    const contenders = CONTENDERS.map((info) => (info.id === 'daemon' ? { ...info, unavailable: reason } : info));
    return { contenders, places };
  },
};

function plans({ quick, rounds }: Settings): SuitePlan<Place>[] {
  const lookups = HOSTS.map(
    (hosts): Measurement<Place> => ({
      id: `lookup-${hosts}`,
      title: `lookup among ${hosts.toLocaleString('en')} hosts`,
      seconds: 0.05,
      metrics: [NS],
      run: async ({ lookup }) => ({ hosts, ns: lookup?.(hosts) ?? Number.NaN }),
    }),
  );
  const counts = quick ? LEASES.slice(0, 1) : LEASES;
  const sorts = counts.flatMap((leases) => FAMILIES.map((families) => ({ leases, families })));
  const arrivals = sorts.map(
    ({ leases, families }): Measurement<Place> => ({
      id: families === 'dual' ? `leases-dual-${leases}` : `leases-${leases}`,
      title: `${leases.toLocaleString('en')} ${families === 'dual' ? 'dual-stack ' : ''}leases arrive`,
      seconds: 2 + leases / 5000,
      metrics: ARRIVAL,
      async run({ arrival }) {
        if (arrival === undefined) throw new Error('only a daemon can be told of leases');
        return arrival.measure(leases, families);
      },
    }),
  );
  const isLookup = (id: string) => id.startsWith('lookup');
  return [
    {
      suite: SUITE,
      underlay: '',
      rounds: quick ? Math.min(3, rounds) : rounds,
      contenders: CONTENDERS.map(({ id }) => id),
      measurements: [...lookups, ...arrivals],
      skip: (id, contender) => isLookup(id) === (contender === 'daemon'),
    },
  ];
}
