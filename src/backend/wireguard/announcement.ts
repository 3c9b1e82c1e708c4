import { membersOf } from '../../base/members.js';
import { formatKey, parseKey } from '../../wireguard/keys.js';

/** What a host says of its WireGuard device in `BackendData` or `BackendV6Data` of its lease: these names, in this order, as flannel's. */
export interface Announcement {
  readonly PublicKey: string;
  readonly Port: number;
}

export function announcementOf(publicKey: Uint8Array, port: number): Announcement {
  return { PublicKey: formatKey(publicKey), Port: port };
}

/**
 * Reads what a peer announced. flannel matches the names without regard to case, and older ones announce no port.
 *
 * @param ownPort taken where the peer names none
 * @param member what of the lease it is
 * @returns or in words why packets cannot be sealed for it
 */
export function readAnnouncement(
  data: unknown,
  ownPort: number,
  member = 'BackendData',
): { readonly publicKey: Uint8Array; readonly port: number } | { readonly refusal: string } {
  const members = membersOf(data);
  if (members === null) return { refusal: `its lease has no ${member} with a PublicKey` };
  const text = members.get('publickey');
  const port = members.get('port') ?? ownPort;
  if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 65_535) {
    return { refusal: `${JSON.stringify(port)} in its lease is no UDP port` };
  }
  try {
    return { publicKey: parseKey(typeof text === 'string' ? text : '', 'PublicKey'), port };
  } catch {
    return { refusal: `${JSON.stringify(text ?? null)} in its lease is no public key` };
  }
}
