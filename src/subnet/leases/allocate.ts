import { netmask, type Prefix, prefixSize } from '../../base/ipv4.js';
import { OutOfSubnetsError } from '../errors.js';
import { describeRange, type Ipv4Network } from '../network-config/config.js';

/** As flannel does, one of so many free subnets is drawn: few enough to find fast, enough that two hosts rarely collide. */
export const CANDIDATES = 100;

/**
 * The first free subnets of the configured range, in order.
 *
 * @param taken Prefixes in use, of any length and in any order; they may overlap each other.
 */
export function freeSubnets(range: Ipv4Network, taken: readonly Prefix[], limit = CANDIDATES): Prefix[] {
  const size = prefixSize(range.subnetLength);
  const used = taken
    .map(({ address, length }) => {
      const start = (address & netmask(length)) >>> 0;
      return { start, end: start + prefixSize(length) };
    })
    .sort((a, b) => a.start - b.start);
  const free: Prefix[] = [];
  let address = range.subnetMin;
  let next = 0;
  while (address <= range.subnetMax && free.length < limit) {
    const taken = used[next];
    if (taken !== undefined && taken.start < address + size) {
      // What ends before this address is behind us for good; anything else pushes us to the first subnet after its end.
      if (taken.end > address) address = Math.ceil(taken.end / size) * size;
      next++;
    } else {
      free.push({ address, length: range.subnetLength });
      address += size;
    }
  }
  return free;
}

/**
 * Draws one of the first free subnets, each with the same chance.
 *
 * @param random Gives a number from 0 up to, but not including, 1.
 * @throws OutOfSubnetsError
 */
export function pickSubnet(range: Ipv4Network, taken: readonly Prefix[], random: () => number): Prefix {
  const free = freeSubnets(range, taken);
  const chosen = free[Math.floor(random() * free.length)];
  if (chosen === undefined) throw new OutOfSubnetsError(describeRange(range));
  return chosen;
}
