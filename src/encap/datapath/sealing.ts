/** What a forwarder seals and opens with, made in its thread of plain numbers. */
import { createCopy } from '../../linux/copy.js';
import type { RegionAllocator } from '../../linux/memory.js';
import { createCipher } from '../../linux/openssl.js';
import { Mailbox } from '../../wireguard/mailbox.js';
import { OPENER_BLOCKS, Opener } from '../../wireguard/opener.js';
import { SEALER_BLOCKS, Sealer } from '../../wireguard/sealer.js';
import type { ForwarderContext } from './context.js';
import type { SealingOptions } from './options.js';

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
