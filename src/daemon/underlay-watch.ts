import fs from 'node:fs/promises';
import os from 'node:os';
import { type Address, formatAddress, parseAddress } from '../base/address.js';
import { parseIpv6 } from '../base/ipv6.js';
import { type IpTool, ipTool, type LinkJson } from '../routes/ip.js';
import {
  findUnderlay,
  type Underlay,
  type UnderlayChoice,
  type UnderlayOptions,
  underlayOf,
} from '../routes/underlay.js';

/**
 * Has the host lost the address that the overlay's packets are sent from, or did the interface's name or MTU change; or
 * did the interface lose or gain its address of the other family?
 *
 * While the address is there, nothing else is looked at: a second default route that comes up later is no reason to
 * move a working overlay, and an address that returns by another interface, as after a new connection of a Docker
 * container to its network, is the one that the other hosts know.
 *
 * @param ipv6 whether the overlay makes use of an IPv6 address
 * @returns another choice, or null when all is as it was
 * @throws UnderlayError when the address is gone and no other interface will do
 */
export async function recheckUnderlay(
  current: UnderlayChoice,
  options: UnderlayOptions,
  ipv6: boolean,
  ip: IpTool = ipTool(),
): Promise<UnderlayChoice | null> {
  if (await isUp(current.underlay, ipv6)) return null;
  // An interface without carrier keeps its address, and will be back.
  const holder = await findHolder(current.underlay, ip);
  const choice =
    holder === null ? await findUnderlay(options, ip) : { ...current, ...heldBy(holder, current, options) };
  const next = ipv6 ? choice : withoutIpv6(choice);
  return same(next, current) ? null : next;
}

/** Where nobody asks for IPv6, its addresses may come and go. */
export function withoutIpv6(choice: UnderlayChoice): UnderlayChoice {
  return { ...choice, underlay: { ...choice.underlay, ipv6: null }, publicIpv6: null };
}

/** The addresses that the host has now, where the operator did not say by which it is known. */
function heldBy(holder: Underlay, { publicIp, underlay }: UnderlayChoice, options: UnderlayOptions) {
  return {
    underlay: holder,
    publicIp: publicIp === underlay.address ? holder.address : publicIp,
    publicIpv6: parseIpv6(options.publicIpv6) ?? holder.ipv6?.address ?? null,
    reason: `it has the address ${formatAddress(addressOf(underlay))} now`,
  };
}

/** By which the other hosts know it: the IPv4 one where there is one. */
function addressOf({ address, ipv6 }: Underlay): Address {
  return ipv6 === null || address !== 0 ? address : ipv6.address;
}

/** The cheap question, which starts no process: Node lists the addresses of interfaces that are up and running. */
async function isUp({ name, address, ipv6, mtu }: Underlay, withIpv6: boolean): Promise<boolean> {
  const present = (os.networkInterfaces()[name] ?? []).map((entry) => parseAddress(entry.address.replace(/%.*/, '')));
  if (address !== 0 && !present.includes(address)) return false;
  if (address === 0 && present.some((one) => typeof one === 'number')) return false;
  const global = present.filter((one) => typeof one === 'bigint' && one >> 118n !== 0xfe80n >> 6n);
  if (withIpv6 && (ipv6 === null ? global.length > 0 : !present.includes(ipv6.address))) return false;
  return Number(await fs.readFile(`/sys/class/net/${name}/mtu`, 'utf8')) === mtu;
}

/** The interface that has the address, preferably the one that had it before. */
async function findHolder(underlay: Underlay, ip: IpTool): Promise<Underlay | null> {
  const wanted = addressOf(underlay);
  const links = await ip.json<LinkJson[]>('address', 'show');
  const holders = links.filter(({ addr_info }) => addr_info.some(({ local }) => parseAddress(local) === wanted));
  const link = holders.find(({ ifname }) => ifname === underlay.name) ?? holders[0];
  return link === undefined ? null : underlayOf(link, wanted, underlay.ipv6?.address ?? null);
}

function same(a: UnderlayChoice, b: UnderlayChoice): boolean {
  return (
    a.publicIp === b.publicIp &&
    a.publicIpv6 === b.publicIpv6 &&
    a.underlay.name === b.underlay.name &&
    a.underlay.address === b.underlay.address &&
    a.underlay.ipv6?.address === b.underlay.ipv6?.address &&
    a.underlay.mtu === b.underlay.mtu
  );
}
