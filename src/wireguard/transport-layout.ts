import type { RegionAllocator } from '../linux/memory.js';
import { type KeySlotsLayout, SLOT_BYTES, slotsFor } from './key-slots.js';
import { MAILBOX_BYTES } from './mailbox.js';
import { PEER_RECORD_BYTES, type PeerRecordsLayout } from './peer-records.js';
import { DROPS_BYTES } from './transport-drops.js';

/** Where everything that the threads share lies. Plain numbers, so that it can be handed to a thread. Offsets in bytes. */
export interface TransportLayout {
  readonly keys: KeySlotsLayout;
  readonly peers: PeerRecordsLayout;
  readonly mailbox: number;
  /** A word that says what the control thread has been called for while it has not come yet; 0 when it has not been called. */
  readonly attention: number;
  readonly sealDrops: number;
  readonly openDrops: number;
}

/** Bits of `attention`: messages in the mailbox; something in the record of a peer, or of its sessions. */
export const ATTENTION_MESSAGES = 1;
export const ATTENTION_PEERS = 2;

/** Address space only: pages that nobody touches cost nothing. The memory must be zero there. */
export function planTransport(regions: RegionAllocator, peers: number): TransportLayout {
  const slots = slotsFor(peers);
  return {
    keys: { slots: regions.take(slots * SLOT_BYTES, 4096), count: slots },
    peers: { records: regions.take(peers * PEER_RECORD_BYTES, 4096), capacity: peers },
    mailbox: regions.take(MAILBOX_BYTES, 4096),
    attention: regions.take(4),
    sealDrops: regions.take(DROPS_BYTES),
    openDrops: regions.take(DROPS_BYTES),
  };
}
