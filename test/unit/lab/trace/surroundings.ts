/** Places of a lab as a trace's tests need them: only what a test is about has to be said. */

import type { Surroundings } from '../../../../src/lab/trace/explain.js';
import type { Link, PlaceFacts } from '../../../../src/lab/trace/facts.js';
import type { Observed } from '../../../../src/lab/trace/verdict.js';
import type { DaemonStatus } from '../../../../src/observe/status.js';

export function link(name: string, more: Partial<Link> = {}): Link {
  return { index: 2, name, mtu: 1500, master: null, kind: 'veth', up: true, dropped: 0, ...more };
}

interface Given {
  readonly links?: readonly Link[];
  readonly rules?: Readonly<Record<string, number>>;
  readonly counters?: Readonly<Record<string, number>>;
  readonly silent?: Readonly<Record<string, string>>;
  readonly daemon?: DaemonStatus | null;
}

export function facts({ links = [], rules = {}, counters = {}, silent = {}, daemon = null }: Given = {}): PlaceFacts {
  const map = <T>(from: Readonly<Record<string, T>>) => new Map(Object.entries(from));
  return {
    links: new Map(links.map((one) => [one.name, one])),
    ...{ rules: map(rules), counters: map(counters), silent: map(silent), daemon },
  };
}

/** A host with a peer that has 100.96.2.0/24 at 192.168.65.2, and these counters. */
export function daemon(
  more: {
    totals?: Readonly<Record<string, number>>;
    drops?: Readonly<Record<string, number>>;
    type?: string;
    device?: string;
  } = {},
): DaemonStatus {
  const { totals = {}, drops = {}, type = 'udp', device = 'flannel0' } = more;
  const peer = { subnet: '100.96.2.0/24', subnetV6: 'fd00:2::/64', publicIp: '192.168.65.2', publicIpv6: null };
  const status = {
    network: '100.96.0.0/16',
    networkV6: null,
    lease: { subnet: '100.96.1.0/24', subnetV6: null },
    backend: { type, device, peers: [peer], totals, drops },
  };
  return status as unknown as DaemonStatus;
}

/** What one place had before and after; routes by what `lookupKey` makes of the question. */
export function around(
  place: string,
  before: PlaceFacts,
  after: PlaceFacts,
  routes: Readonly<Record<string, string>> = {},
): Surroundings {
  return {
    before: new Map([[place, before]]),
    after: new Map([[place, after]]),
    routes: new Map(Object.entries(routes)),
    hostOf: (address) => (address === '192.168.65.2' ? 'host2' : null),
  };
}

export function observed(more: Partial<Observed>): Observed {
  return {
    ...{ origin: 'host1/c1', destination: '100.96.2.2', targets: ['host2/c1'], there: [], answer: null, error: null },
    ...{ answerCameBack: false, sender: { outcome: 'silence', error: '', waitedMs: 3000 }, nextLink: null },
    ...{ placeOf: () => null, originRoute: '' },
    ...more,
  };
}
