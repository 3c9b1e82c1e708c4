import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { probeMergedWrite } from '../../../../src/backend/udp/merge-probe.js';
import { EBADF } from '../../../../src/linux/constants.js';
import { SharedMemory } from '../../../../src/linux/memory.js';
import { decodeVnet } from '../../encap/support/fake-kernel.js';
import { deliver, faults, long, parse } from '../../encap/support/reference.js';

const memory = SharedMemory.create(65_536);
const SCRATCH = 4096;
const ADDRESS = 0x0a050100;
const folder = mkdtempSync(path.join(tmpdir(), 'tweed-probe-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('probeMergedWrite', () => {
  it('writes one right super-packet with a shorter last segment, which no kernel forwards: from, to and TTL say so', () => {
    const file = path.join(folder, 'tun');
    const fd = openSync(file, 'w');
    expect(probeMergedWrite(memory, SCRATCH, fd, ADDRESS)).toBe(0);
    closeSync(fd);
    const written = new Uint8Array(readFileSync(file));
    const pieces = deliver(decodeVnet(written), written.slice(10));
    expect(pieces.map((piece) => parse(piece).payload.length)).toEqual([100, 99]);
    expect(pieces.flatMap(faults)).toEqual([]);
    const { source, destination, ttl } = parse(pieces[0]!);
    expect([long(source, 0), long(destination, 0), ttl]).toEqual([ADDRESS, ADDRESS, 0]);
  });

  it('stays within the scratch memory that it was given, and leaves zeros there', () => {
    memory.u8.fill(0xcd);
    memory.u8.fill(0, SCRATCH, SCRATCH + 512);
    probeMergedWrite(memory, SCRATCH, -1, ADDRESS);
    expect(memory.u8.subarray(0, SCRATCH).every((byte) => byte === 0xcd)).toBe(true);
    expect(memory.u8.subarray(SCRATCH, SCRATCH + 512).every((byte) => byte === 0)).toBe(true);
    expect(memory.u8.subarray(SCRATCH + 512).every((byte) => byte === 0xcd)).toBe(true);
  });

  it('gives the reason of a refusal', () => {
    expect(probeMergedWrite(memory, SCRATCH, -1, ADDRESS)).toBe(EBADF);
  });
});
