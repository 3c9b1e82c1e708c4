import { membersOf } from '../../base/members.js';
import { shown } from '../../base/printable.js';
import { isStationMac, parseMac } from './mac.js';

/** What a host says of its VXLAN device in `BackendData` of its lease: these names, in this order, as flannel's. */
export interface Announcement {
  readonly VNI: number;
  readonly VtepMAC: string;
}

/** A MAC address that packets for a peer can be sent to, or in words why there is none. */
export type PeerMac = { readonly mac: string } | { readonly refusal: string };

/**
 * Reads what a peer announced. flannel matches the names without regard to case, and older ones announce no VNI. Its VNI
 * has 16 bits there, so a larger one arrives cut off.
 */
export function readAnnouncement(data: unknown, vni: number): PeerMac {
  const members = membersOf(data);
  if (members === null) return { refusal: 'its lease has no BackendData with a VtepMAC' };
  const text = members.get('vtepmac');
  const mac = typeof text === 'string' ? parseMac(text) : null;
  if (mac === null || !isStationMac(mac)) {
    return { refusal: `${shown(text ?? null)} in its lease is no MAC address of a host` };
  }
  const theirs = members.get('vni') ?? vni;
  if (theirs !== vni && theirs !== (vni & 0xffff)) {
    return { refusal: `its VNI is ${shown(theirs)}, ours is ${vni}` };
  }
  return { mac };
}
