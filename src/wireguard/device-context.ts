/** What a device and its peers have in common, and what they tell whoever runs them. */
import type { Random } from './cookies.js';
import type { Endpoint } from './endpoint.js';
import type { KeySlots } from './key-slots.js';
import type { PrivateKey } from './keys.js';
import type { PeerRecords } from './peer-records.js';

/** One moment by both clocks, in milliseconds. Only timestamps and what people see use the wall's. */
export interface Now {
  readonly monotonic: number;
  /** Since the epoch. */
  readonly wall: number;
}

/** Why a handshake message was not accepted, or could not be sent. */
export const DEVICE_DROPS = [
  'not_handshake',
  'bad_mac1',
  'cookie_required',
  'rate_limited',
  'bad_initiation',
  'unknown_peer',
  'replayed_initiation',
  'initiations_too_fast',
  'unexpected_response',
  'bad_response',
  'unexpected_cookie',
  'bad_cookie',
  'no_slots',
  'no_endpoint',
] as const;
export type DeviceDrop = (typeof DEVICE_DROPS)[number];

/** What a device wants done. None of it may call the device. */
export interface DeviceOutput {
  /** Send a datagram; the bytes are the receiver's. */
  send(message: Uint8Array, to: Endpoint): void;
  /** There is a key to send to the peer under: packets that wait for it may leave. */
  ready(peer: number): void;
  /** No answer for REKEY_ATTEMPT_TIME: packets that wait may be dropped. */
  unreachable(peer: number): void;
  /** The peer's datagrams go to another address from now on. */
  moved(peer: number, endpoint: Endpoint): void;
}

/** What peers have of their device. */
export interface DeviceContext {
  readonly privateKey: PrivateKey;
  readonly slots: KeySlots;
  readonly records: PeerRecords;
  /** Notes whose handshake or session an index of ours stands for. */
  bind(index: number, peer: number): void;
  unbind(index: number): void;
  readonly random: Random;
  readonly output: DeviceOutput;
  /** An empty message under the key that the peer's packets leave under. */
  sealKeepalive(peer: number): Uint8Array | undefined;
  drop(reason: DeviceDrop): void;
}
