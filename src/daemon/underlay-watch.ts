import fs from 'node:fs/promises';
import os from 'node:os';
import { formatIpv4 } from '../base/ipv4.js';
import { ipJson, type LinkJson } from '../routes/ip.js';
import { findUnderlay, type Underlay, type UnderlayChoice, type UnderlayOptions } from '../routes/underlay.js';

/**
 * Has the host lost the address that the overlay's packets are sent from, or did the interface's MTU change?
 *
 * While the address is there, nothing else is looked at: a second default route that comes up later is no reason to
 * move a working overlay.
 *
 * @returns another choice, or null when all is as it was
 * @throws UnderlayError when the address is gone and no other interface will do
 */
export async function recheckUnderlay(
  current: UnderlayChoice,
  options: UnderlayOptions,
): Promise<UnderlayChoice | null> {
  if ((await isUp(current.underlay)) || (await isConfigured(current.underlay))) return null;
  const choice = await findUnderlay(options);
  return same(choice, current) ? null : choice;
}

/** The cheap question, which starts no process: Node lists the addresses of interfaces that are up and running. */
async function isUp({ name, address, mtu }: Underlay): Promise<boolean> {
  const wanted = formatIpv4(address);
  if (!os.networkInterfaces()[name]?.some((entry) => entry.address === wanted)) return false;
  return Number(await fs.readFile(`/sys/class/net/${name}/mtu`, 'utf8')) === mtu;
}

/** The thorough question: an interface without carrier keeps its address, and will be back. */
async function isConfigured({ name, address, mtu }: Underlay): Promise<boolean> {
  const links = await ipJson<LinkJson[]>('address', 'show');
  const wanted = formatIpv4(address);
  return links.some(
    (link) => link.ifname === name && link.mtu === mtu && link.addr_info.some(({ local }) => local === wanted),
  );
}

function same(a: UnderlayChoice, b: UnderlayChoice): boolean {
  return (
    a.publicIp === b.publicIp &&
    a.underlay.name === b.underlay.name &&
    a.underlay.address === b.underlay.address &&
    a.underlay.mtu === b.underlay.mtu
  );
}
