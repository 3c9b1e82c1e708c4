import fs from 'node:fs/promises';
import os from 'node:os';
import { formatIpv4 } from '../base/ipv4.js';
import { type IpTool, ipTool, type LinkJson } from '../routes/ip.js';
import { findUnderlay, type Underlay, type UnderlayChoice, type UnderlayOptions } from '../routes/underlay.js';

/**
 * Has the host lost the address that the overlay's packets are sent from, or did the interface's name or MTU change?
 *
 * While the address is there, nothing else is looked at: a second default route that comes up later is no reason to
 * move a working overlay, and an address that returns by another interface, as after a new connection of a Docker
 * container to its network, is the one that the other hosts know.
 *
 * @returns another choice, or null when all is as it was
 * @throws UnderlayError when the address is gone and no other interface will do
 */
export async function recheckUnderlay(
  current: UnderlayChoice,
  options: UnderlayOptions,
  ip: IpTool = ipTool(),
): Promise<UnderlayChoice | null> {
  if (await isUp(current.underlay)) return null;
  // An interface without carrier keeps its address, and will be back.
  const holder = await findHolder(current.underlay, ip);
  const choice =
    holder === null
      ? await findUnderlay(options, ip)
      : { ...current, underlay: holder, reason: `it has the address ${formatIpv4(holder.address)} now` };
  return same(choice, current) ? null : choice;
}

/** The cheap question, which starts no process: Node lists the addresses of interfaces that are up and running. */
async function isUp({ name, address, mtu }: Underlay): Promise<boolean> {
  const wanted = formatIpv4(address);
  if (!os.networkInterfaces()[name]?.some((entry) => entry.address === wanted)) return false;
  return Number(await fs.readFile(`/sys/class/net/${name}/mtu`, 'utf8')) === mtu;
}

/** The interface that has the address, preferably the one that had it before. */
async function findHolder({ name, address }: Underlay, ip: IpTool): Promise<Underlay | null> {
  const wanted = formatIpv4(address);
  const links = await ip.json<LinkJson[]>('address', 'show');
  const holders = links.filter(({ addr_info }) => addr_info.some(({ local }) => local === wanted));
  const link = holders.find(({ ifname }) => ifname === name) ?? holders[0];
  if (link === undefined) return null;
  const prefixLength = link.addr_info.find(({ local }) => local === wanted)?.prefixlen ?? 32;
  return { name: link.ifname, index: link.ifindex, address, prefixLength, ipv6: null, mtu: link.mtu };
}

function same(a: UnderlayChoice, b: UnderlayChoice): boolean {
  return (
    a.publicIp === b.publicIp &&
    a.underlay.name === b.underlay.name &&
    a.underlay.address === b.underlay.address &&
    a.underlay.mtu === b.underlay.mtu
  );
}
