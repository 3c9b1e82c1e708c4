import { parsePrefix } from '../../src/base/ipv4.js';
import { CAPACITY } from '../../src/encap/forwarding/layout.js';
import { lookup, NO_VALUE, PrefixTable, prefixTableBytes, rootShift } from '../../src/encap/forwarding/prefix-table.js';
import { seededRandom } from '../stats/random.js';
import { median } from '../stats/summary.js';

const NETWORK = parsePrefix('10.0.0.0/8') as { address: number; length: number };
const LENGTH = 24;
const MASK = -1 << (32 - LENGTH);
const ADDRESSES = 1 << 12;
const MILLISECONDS = 20;
const CHUNK = 1 << 8;
const NO_READERS = { beat: () => 0 };

/** Addresses of containers on random hosts, so that no lookup profits from the one before it. Signed, as they are read. */
function randomAddresses(hosts: number): Int32Array {
  const random = seededRandom(hosts);
  return Int32Array.from({ length: ADDRESSES }, () => {
    const subnet = Math.floor(random() * hosts);
    return (NETWORK.address + subnet * 256 + 1 + Math.floor(random() * 250)) | 0;
  });
}

/** Nanoseconds per call of `find`, over random addresses among so many hosts. */
function measure(hosts: number, find: (address: number) => number): number {
  const addresses = randomAddresses(hosts);
  const chunks: number[] = [];
  let done = 0;
  let missed = 0;
  const started = performance.now();
  for (let now = started; now - started < MILLISECONDS; ) {
    for (let i = 0; i < CHUNK; i++) {
      if (find(addresses[(done + i) & (ADDRESSES - 1)] as number) === NO_VALUE) missed++;
    }
    done += CHUNK;
    const later = performance.now();
    chunks.push(((later - now) * 1e6) / CHUNK);
    now = later;
  }
  if (missed > 0) throw new Error(`${missed} of ${done} lookups found nothing; the table is wrong`);
  return median(chunks);
}

/** The forwarders' own lookup in their own table. */
export function tableLookup(): (hosts: number) => number {
  const tables = new Map<number, PrefixTable>();
  const build = (hosts: number) => {
    const words = new Int32Array(new SharedArrayBuffer(prefixTableBytes(CAPACITY.subnetNodes)));
    const table = new PrefixTable(words, 0, CAPACITY.subnetNodes, NETWORK, NO_READERS);
    for (let host = 0; host < hosts; host++) {
      table.set({ address: NETWORK.address + host * 256, length: LENGTH }, host);
    }
    tables.set(hosts, table);
    return table;
  };
  return (hosts) => {
    const { words } = tables.get(hosts) ?? build(hosts);
    const shift = rootShift(NETWORK);
    return measure(hosts, (address) => lookup(words, 0, shift, address));
  };
}

/** One route after the other until one fits. */
export function linearLookup(hosts: number): number {
  const networks = Int32Array.from({ length: hosts }, (_, host) => (NETWORK.address + host * 256) | 0);
  return measure(hosts, (address) => {
    for (let i = 0; i < networks.length; i++) if ((address & MASK) === networks[i]) return i;
    return NO_VALUE;
  });
}
