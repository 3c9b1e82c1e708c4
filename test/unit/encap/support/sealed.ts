/** Forwarders with sealed datagrams. The keys are fixed, so node:crypto is the other end. */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { expect } from 'vitest';
import type { ForwarderOptions } from '../../../../src/encap/datapath/options.js';
import { KeySlots } from '../../../../src/wireguard/key-slots.js';
import { Secret } from '../../../../src/wireguard/keys.js';
import { PeerRecords } from '../../../../src/wireguard/peer-records.js';
import { OPEN_DROPS, readTransportDrops, SEAL_DROPS } from '../../../../src/wireguard/transport-drops.js';
import { SEALING, type Workbench, workbench } from './workbench.js';

/** Peer numbers: the order in which the workbench sets them. */
export const PEER_2 = 0;
export const PEER_3 = 1;
const THEIR_INDEX = 0x1234_5678;
const KEY = new Uint8Array(32).fill(9);

/** What of the options makes datagrams sealed. */
export const SEALED: Partial<ForwarderOptions> = { sealing: SEALING, checkSenders: false };

/** @param bench made with `SEALED` */
export function sealedBench(bench: Workbench = workbench(SEALED)) {
  const { memory } = bench;
  const slots = new KeySlots(memory, SEALING.layout.keys, (bytes) => new Uint8Array(bytes).fill(7));
  const records = new PeerRecords(memory, SEALING.layout.peers);
  return {
    ...bench,
    records,
    /** @returns the index under which the peer's messages come */
    session(peer: number): number {
      const index = slots.reserve(0)!;
      slots.install(index, peer, THEIR_INDEX, { send: new Secret(KEY.slice()), receive: new Secret(KEY.slice()) });
      records.setSending(peer, slots.slotOf(index));
      return index;
    },
    sealDrops: () => nonZero(readTransportDrops(memory.f64, SEALING.layout.sealDrops, SEAL_DROPS)),
    openDrops: () => nonZero(readTransportDrops(memory.f64, SEALING.layout.openDrops, OPEN_DROPS)),
  };
}

function nonZero(counts: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
}

function nonceOf(counter: number): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setUint32(4, counter, true);
  return nonce;
}

/** What a message holds, without its padding, and its counter. */
export function opened(message: Uint8Array): { readonly counter: number; readonly packet: Uint8Array } {
  const view = new DataView(message.buffer, message.byteOffset);
  expect([view.getUint32(0, true), view.getUint32(4, true)]).toEqual([4, THEIR_INDEX]);
  const counter = view.getUint32(8, true);
  const decipher = createDecipheriv('chacha20-poly1305', KEY, nonceOf(counter), { authTagLength: 16 });
  decipher.setAuthTag(message.subarray(-16));
  const text = decipher.update(message.subarray(16, -16));
  decipher.final();
  return { counter, packet: new Uint8Array(text.subarray(0, lengthOf(text))) };
}

function lengthOf(packet: Buffer): number {
  return packet.readUInt8(0) >> 4 === 4 ? packet.readUInt16BE(2) : 40 + packet.readUInt16BE(4);
}

/** A message that the peer would send under the index. */
export function sealed(index: number, counter: number, packet: Uint8Array): Uint8Array {
  const cipher = createCipheriv('chacha20-poly1305', KEY, nonceOf(counter), { authTagLength: 16 });
  const padded = new Uint8Array(Math.min(1440, Math.ceil(packet.length / 16) * 16));
  padded.set(packet);
  const header = new Uint8Array(16);
  const view = new DataView(header.buffer);
  view.setUint32(0, 4, true);
  view.setUint32(4, index, true);
  view.setUint32(8, counter, true);
  return Uint8Array.from([...header, ...cipher.update(padded), ...cipher.final(), ...cipher.getAuthTag()]);
}
