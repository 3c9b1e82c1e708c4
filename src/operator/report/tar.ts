/** Files of a tar archive, as POSIX.1-1988 (ustar) has them: a header of 512 bytes, then the file, filled up to 512. */

export interface ArchivedFile {
  /** Up to 100 bytes, with slashes. */
  readonly name: string;
  readonly content: Uint8Array;
}

const BLOCK = 512;

/** The archive. @param modified seconds since the epoch @throws RangeError when a name is too long */
export function tarArchive(files: readonly ArchivedFile[], modified: number): Buffer {
  const blocks = files.flatMap(({ name, content }) => [
    header(name, content.length, modified),
    content,
    Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK),
  ]);
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]);
}

function header(name: string, size: number, modified: number): Buffer {
  if (Buffer.byteLength(name) > 100) throw new RangeError(`${name} is too long a name for a file in an archive`);
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, offset: number, length: number) =>
    block.write(
      `${Math.floor(value)
        .toString(8)
        .padStart(length - 1, '0')}\0`,
      offset,
    );
  block.write(name, 0);
  octal(0o600, 100, 8);
  octal(0, 108, 8); // user and group: root
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(modified, 136, 12);
  block.write('        ', 148); // the checksum counts as blanks
  block.write('0', 156); // a regular file
  block.write('ustar\x0000', 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}
