/**
 * What one process leaves to another when it ends: bytes in a file that has no name (memfd_create(2)). Its descriptor is given
 * to the other beforehand; nobody else can open it, it is on no disk, and it is gone with its last descriptor.
 */
import fs from 'node:fs';
import { MFD_CLOEXEC } from './constants.js';
import { SystemCallError } from './errno.js';
import { control } from './libc.js';

/** How many bytes follow. Written last, so that what is half there counts as nothing. */
const HEADER_BYTES = 8;

/** @throws SystemCallError */
export function makeVessel(name: string): number {
  const fd = control.memfdCreate(`tweed-${name}`, MFD_CLOEXEC);
  if (fd < 0) throw new SystemCallError('memfd_create', control.errno(), 'raise the limit of open files');
  return fd;
}

/** @throws Error of node:fs */
export function fillVessel(fd: number, bytes: Uint8Array): void {
  writeAll(fd, bytes, HEADER_BYTES);
  const header = new Uint8Array(HEADER_BYTES);
  new DataView(header.buffer).setBigUint64(0, BigInt(bytes.length), true);
  writeAll(fd, header, 0);
}

/** Takes out what is there, which is nowhere else afterwards; null for nothing. @throws Error of node:fs */
export function emptyVessel(fd: number): Uint8Array | null {
  const header = new Uint8Array(HEADER_BYTES);
  if (fs.readSync(fd, header, 0, HEADER_BYTES, 0) < HEADER_BYTES) return null;
  const length = Number(new DataView(header.buffer).getBigUint64(0, true));
  if (length === 0 || fs.fstatSync(fd).size !== HEADER_BYTES + length) return null;
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; ) {
    const read = fs.readSync(fd, bytes, at, length - at, HEADER_BYTES + at);
    if (read === 0) return null;
    at += read;
  }
  writeAll(fd, new Uint8Array(HEADER_BYTES + length), 0);
  fs.ftruncateSync(fd);
  return bytes;
}

function writeAll(fd: number, bytes: Uint8Array, position: number): void {
  for (let at = 0; at < bytes.length; ) at += fs.writeSync(fd, bytes, at, bytes.length - at, position + at);
}
