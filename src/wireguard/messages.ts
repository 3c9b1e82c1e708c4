/**
 * The layout of WireGuard's four messages (paper, section 5.4), as byte offsets. Numbers are little-endian; a message
 * begins with its type and three zero bytes, which together read as one 32-bit number.
 */

export const INITIATION = 1;
export const RESPONSE = 2;
export const COOKIE_REPLY = 3;
export const TRANSPORT = 4;

export const INITIATION_BYTES = 148;
export const INITIATION_SENDER = 4;
export const INITIATION_EPHEMERAL = 8;
export const INITIATION_STATIC = 40;
export const INITIATION_TIMESTAMP = 88;
const INITIATION_MACS = 116;

export const RESPONSE_BYTES = 92;
export const RESPONSE_SENDER = 4;
export const RESPONSE_RECEIVER = 8;
export const RESPONSE_EPHEMERAL = 12;
export const RESPONSE_EMPTY = 44;
const RESPONSE_MACS = 60;

export const COOKIE_REPLY_BYTES = 64;
export const COOKIE_REPLY_RECEIVER = 4;
export const COOKIE_REPLY_NONCE = 8;
export const COOKIE_REPLY_COOKIE = 32;

export const TRANSPORT_HEADER = 16;
export const TRANSPORT_RECEIVER = 4;
export const TRANSPORT_COUNTER = 8;

/** What a datagram is, by type and length; 0 when it is none of the four. */
export function messageType(bytes: Uint8Array): number {
  if (bytes.length < 4 || bytes[1] !== 0 || bytes[2] !== 0 || bytes[3] !== 0) return 0;
  switch (bytes[0]) {
    case INITIATION:
      return bytes.length === INITIATION_BYTES ? INITIATION : 0;
    case RESPONSE:
      return bytes.length === RESPONSE_BYTES ? RESPONSE : 0;
    case COOKIE_REPLY:
      return bytes.length === COOKIE_REPLY_BYTES ? COOKIE_REPLY : 0;
    case TRANSPORT:
      return bytes.length >= TRANSPORT_HEADER + 16 ? TRANSPORT : 0;
    default:
      return 0;
  }
}

/** Where mac1 stands in an initiation or a response; mac2 follows. */
export function macsAt(message: Uint8Array): number {
  return message[0] === INITIATION ? INITIATION_MACS : RESPONSE_MACS;
}

export function word(message: Uint8Array, at: number): number {
  return (message[at] | (message[at + 1] << 8) | (message[at + 2] << 16) | (message[at + 3] << 24)) >>> 0;
}

export function putWord(message: Uint8Array, at: number, value: number): void {
  message[at] = value;
  message[at + 1] = value >>> 8;
  message[at + 2] = value >>> 16;
  message[at + 3] = value >>> 24;
}
