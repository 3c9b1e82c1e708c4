/**
 * The cross-platform user API of WireGuard implementations (wireguard.com/xplatform): `key=value` lines over a unix socket
 * at /var/run/wireguard/DEVICE.sock, as `wg show` speaks it. This side answers `get=1` and refuses `set=1`, since who our
 * peers are is what the registry says.
 *
 * Here is only the text. The answer holds the private key: the socket must be its owner's alone.
 */
import type { PeerStatus } from './device.js';
import { type Endpoint, formatEndpoint } from './endpoint.js';
import type { Secret } from './keys.js';

/** asm-generic/errno-base.h */
const EPERM = 1;
const EINVAL = 22;
/** asm-generic/errno.h */
const EPROTO = 71;

/** A request may be no longer; anybody who sends more is not `wg`. */
const MAX_REQUEST = 65_536;

export type Request =
  | { readonly kind: 'get' }
  /** Answer with this errno, which is written as a negative number. */
  | { readonly kind: 'refused'; readonly errno: number };

/** Gathers the bytes of one connection into requests, which end with an empty line. */
export class RequestReader {
  #text = '';

  /** @returns the requests that are complete now */
  push(chunk: string): Request[] {
    this.#text += chunk;
    const requests: Request[] = [];
    for (let end = this.#text.indexOf('\n\n'); end >= 0; end = this.#text.indexOf('\n\n')) {
      requests.push(parseRequest(this.#text.slice(0, end)));
      this.#text = this.#text.slice(end + 2);
    }
    if (this.#text.length > MAX_REQUEST) {
      this.#text = '';
      requests.push({ kind: 'refused', errno: EPROTO });
    }
    return requests;
  }
}

function parseRequest(text: string): Request {
  if (text === 'get=1') return { kind: 'get' };
  const errno = text === 'set=1' || text.startsWith('set=1\n') ? EPERM : EINVAL;
  return { kind: 'refused', errno };
}

/** A peer, with the networks that are its own as `wg` writes them. */
export type UserApiPeer = PeerStatus & { readonly allowedIps: readonly string[] };

export interface UserApiDevice {
  readonly privateKey: Secret;
  readonly listenPort: number;
  readonly peers: Iterable<UserApiPeer>;
}

/** The whole answer to a request. */
export function formatAnswer(request: Request, device: UserApiDevice): string {
  if (request.kind === 'refused') return `errno=-${request.errno}\n\n`;
  const lines = [`private_key=${hex(device.privateKey.bytes)}`, `listen_port=${device.listenPort}`];
  for (const peer of device.peers) lines.push(...peerLines(peer));
  return `${lines.join('\n')}\nerrno=0\n\n`;
}

function peerLines(peer: UserApiPeer): string[] {
  const seconds = Math.floor(peer.lastHandshake / 1000);
  return [
    `public_key=${hex(peer.publicKey)}`,
    `preshared_key=${hex(peer.presharedKey.bytes)}`,
    'protocol_version=1',
    ...endpointLine(peer.endpoint),
    `last_handshake_time_sec=${seconds}`,
    `last_handshake_time_nsec=${Math.floor((peer.lastHandshake - seconds * 1000) * 1e6)}`,
    `tx_bytes=${peer.sentBytes}`,
    `rx_bytes=${peer.receivedBytes}`,
    `persistent_keepalive_interval=${Math.round(peer.persistentKeepalive / 1000)}`,
    ...peer.allowedIps.map((network) => `allowed_ip=${network}`),
  ];
}

function endpointLine(endpoint: Endpoint | undefined): string[] {
  return endpoint === undefined ? [] : [`endpoint=${formatEndpoint(endpoint)}`];
}

function hex(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('hex');
}
