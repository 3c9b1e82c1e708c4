/** What a forwarder seals and opens with, made in its thread of plain numbers. */
import { createCopy } from '../../linux/copy.js';
import type { RegionAllocator } from '../../linux/memory.js';
import { createCipher } from '../../linux/openssl.js';
import { Mailbox } from '../../wireguard/mailbox.js';
import { OPENER_BLOCKS, Opener } from '../../wireguard/opener.js';
import { SEALER_BLOCKS, Sealer } from '../../wireguard/sealer.js';
import type { TransportLayout } from '../../wireguard/transport-layout.js';
import type { ForwarderContext } from './context.js';

/**
 * Datagrams are WireGuard's. The number of a peer's record is the same in `layout` as in the forwarding table. The tunnel is
 * no hop then: inner packets arrive as they were sent, TTL included, as they do between other WireGuard devices.
 */
export interface SealingOptions {
  readonly layout: TransportLayout;
  /** The device's MTU, in bytes. */
  readonly mtu: number;
}

export function createSealer(
  { memory, call }: Pick<ForwarderContext, 'memory' | 'call'>,
  regions: RegionAllocator,
  { layout, mtu }: SealingOptions,
): Sealer {
  return new Sealer(memory, createCipher(memory, regions, SEALER_BLOCKS), createCopy(memory), layout, mtu, call);
}

export function createOpener(
  { memory, call }: ForwarderContext,
  regions: RegionAllocator,
  { layout }: SealingOptions,
): Opener {
  const copy = createCopy(memory);
  const mailbox = new Mailbox(memory, layout.mailbox, copy);
  return new Opener(memory, createCipher(memory, regions, OPENER_BLOCKS), copy, layout, mailbox, call);
}
