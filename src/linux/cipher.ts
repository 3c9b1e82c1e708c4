/** What a cipher of the packets' way is, and where its things lie in the shared memory. `openssl.ts` makes one. */
import type { RegionAllocator, SharedMemory } from './memory.js';

/** Texts begin at multiples of it. */
export const BLOCK_BYTES = 64;
export const TAG_BYTES = 16;
export const KEY_BYTES = 32;
export const NONCE_BYTES = 12;
/** The longest text, one byte more than a datagram has; and what may be written behind a text besides. */
export const MAX_TEXT = 65_536;
export const BEHIND_TEXT = 32;

/**
 * One thread's cipher. Everything lies in its own part of the shared memory.
 *
 * A text lies in the arena at the start of a block, not of the first; the block before it and BEHIND_TEXT bytes behind it are
 * the cipher's to overwrite while it seals or opens, and anybody's afterwards.
 */
export interface Cipher {
  /** Which of the three does the work. */
  readonly engine: 'openssl' | 'evp' | 'node';
  /** Offset of the arena's first block, and how many there are. */
  readonly arena: number;
  readonly blocks: number;
  /** Offset of what is to be opened, up to MAX_TEXT bytes. */
  readonly sealed: number;
  /** Offsets of 32, 12 and 16 bytes. The caller fills key and nonce in; the tag stays behind after `seal`. */
  readonly key: number;
  readonly nonce: number;
  readonly tag: number;
  /** Encrypts `length` bytes at the start of a block, in place, and leaves the tag. @returns false when OpenSSL failed */
  seal(block: number, length: number): boolean;
  /**
   * Decrypts what lies at `sealed` and what the tag fits, to the start of a block. What lay at `sealed` is not kept.
   *
   * @returns false when the tag does not fit; the text is then worth nothing
   */
  open(block: number, length: number): boolean;
  /** Forgets the last key. */
  forget(): void;
  /** Forgets the last key and gives back what OpenSSL holds. Nothing may be called afterwards. */
  close(): void;
}

/** Where everything of a cipher lies. */
export interface CipherPlaces extends Pick<Cipher, 'arena' | 'blocks' | 'sealed' | 'key' | 'nonce' | 'tag'> {
  /** Offsets: the word before the nonce, and the block before `sealed`. */
  readonly counter: number;
  readonly beforeSealed: number;
}

export function takePlaces(regions: RegionAllocator, blocks: number): CipherPlaces {
  const key = regions.take(KEY_BYTES);
  const counter = regions.take(4 + NONCE_BYTES);
  const tag = regions.take(TAG_BYTES);
  const beforeSealed = regions.take(BLOCK_BYTES + MAX_TEXT + BEHIND_TEXT);
  const arena = regions.take(blocks * BLOCK_BYTES, 4096);
  const sealed = beforeSealed + BLOCK_BYTES;
  return { key, counter, nonce: counter + 4, tag, beforeSealed, sealed, arena, blocks };
}

/** The addresses of all blocks. The null keeps them boxed, so that passing one to a call allocates nothing. */
export function blockAddresses(memory: SharedMemory, { arena, blocks }: CipherPlaces): readonly (number | null)[] {
  return [...Array.from({ length: blocks }, (_, block) => memory.base + arena + block * BLOCK_BYTES), null];
}

/** What every cipher has of its places. */
export abstract class PlacedCipher {
  readonly arena: number;
  readonly blocks: number;
  readonly sealed: number;
  readonly key: number;
  readonly nonce: number;
  readonly tag: number;

  constructor({ arena, blocks, sealed, key, nonce, tag }: CipherPlaces) {
    this.arena = arena;
    this.blocks = blocks;
    this.sealed = sealed;
    this.key = key;
    this.nonce = nonce;
    this.tag = tag;
  }
}
