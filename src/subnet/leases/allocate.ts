import { type AnyPrefix, addressBits, familyOf } from '../../base/address.js';
import { OutOfSubnetsError } from '../errors.js';
import { describeRange, fitsRange, type Ipv4Network, type Ipv6Network } from '../network-config/config.js';

/** As flannel does, one of so many free subnets is drawn: few enough to find fast, enough that two hosts rarely collide. */
export const CANDIDATES = 100;

type Range = Ipv4Network | Ipv6Network;

/**
 * The first free subnets of the configured range, in order. Both families are counted in wide integers: it is done once a
 * start.
 *
 * @param taken Prefixes in use, of any length, in any order and of either family; they may overlap each other.
 */
export function freeSubnets<R extends Range>(
  range: R,
  taken: readonly AnyPrefix[],
  limit = CANDIDATES,
): R['network'][] {
  const family = familyOf(range.subnetMin);
  const sizeOf = (length: number) => 1n << BigInt(addressBits(family) - length);
  const size = sizeOf(range.subnetLength);
  const used = taken
    .filter(({ address }) => familyOf(address) === family)
    .map(({ address, length }) => {
      const start = (BigInt(address) / sizeOf(length)) * sizeOf(length);
      return { start, end: start + sizeOf(length) };
    })
    .sort((a, b) => (a.start < b.start ? -1 : Number(a.start > b.start)));
  const free: AnyPrefix[] = [];
  let address = BigInt(range.subnetMin);
  let next = 0;
  while (address <= range.subnetMax && free.length < limit) {
    const other = used[next];
    if (other !== undefined && other.start < address + size) {
      // What ends before this address is behind us for good; anything else pushes us to the first subnet after its end.
      if (other.end > address) address = ((other.end + size - 1n) / size) * size;
      next++;
    } else {
      const length = range.subnetLength;
      free.push(family === 4 ? { address: Number(address), length } : { address, length });
      address += size;
    }
  }
  return free as R['network'][];
}

/**
 * Draws one of the first free subnets, each with the same chance.
 *
 * @param random Gives a number from 0 up to, but not including, 1.
 * @throws OutOfSubnetsError
 */
export function pickSubnet<R extends Range>(range: R, taken: readonly AnyPrefix[], random: () => number): R['network'] {
  const free = freeSubnets(range, taken);
  const chosen = free[Math.floor(random() * free.length)];
  if (chosen === undefined) throw new OutOfSubnetsError(describeRange(range));
  return chosen;
}

/** Would the configuration hand it out, and nobody has any of it? */
export function isFree<R extends Range>(prefix: AnyPrefix, range: R, taken: readonly AnyPrefix[]): boolean {
  if (!fitsRange(prefix, range)) return false;
  return freeSubnets({ ...range, subnetMin: prefix.address, subnetMax: prefix.address }, taken, 1).length === 1;
}
