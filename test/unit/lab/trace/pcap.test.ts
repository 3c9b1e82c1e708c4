import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PcapReader, type PcapRecord } from '../../../../src/lab/trace/pcap.js';

interface Written {
  readonly littleEndian: boolean;
  readonly nano: boolean;
  readonly records: readonly { readonly seconds: number; readonly fraction: number; readonly bytes: Uint8Array }[];
}

function write({ littleEndian, nano, records }: Written): Uint8Array {
  const header = new DataView(new ArrayBuffer(24));
  header.setUint32(0, nano ? 0xa1b23c4d : 0xa1b2c3d4, littleEndian);
  header.setUint16(4, 2, littleEndian);
  header.setUint16(6, 4, littleEndian);
  header.setUint32(16, 262_144, littleEndian);
  header.setUint32(20, 276, littleEndian);
  const parts = records.flatMap(({ seconds, fraction, bytes }) => {
    const record = new DataView(new ArrayBuffer(16));
    for (const [index, word] of [seconds, fraction, bytes.length, bytes.length + 9].entries()) {
      record.setUint32(index * 4, word, littleEndian);
    }
    return [new Uint8Array(record.buffer), bytes];
  });
  return Buffer.concat([new Uint8Array(header.buffer), ...parts]);
}

const written = fc.boolean().chain((nano) =>
  fc.record({
    littleEndian: fc.boolean(),
    nano: fc.constant(nano),
    records: fc.array(
      fc.record({
        seconds: fc.nat(2 ** 31),
        fraction: fc.nat(nano ? 999_999_999 : 999_999),
        bytes: fc.uint8Array({ maxLength: 200 }),
      }),
      { maxLength: 8 },
    ),
  }),
);

describe('a capture as tcpdump writes it', () => {
  it('is read whole, whatever the byte order, the unit of time, and the pieces that it comes in', () => {
    fc.assert(
      fc.property(written, fc.array(fc.integer({ min: 1, max: 60 })), (capture, cuts) => {
        const bytes = write(capture);
        const reader = new PcapReader();
        const found: PcapRecord[] = [];
        let at = 0;
        for (const cut of [...cuts, bytes.length]) {
          found.push(...reader.push(bytes.subarray(at, at + cut)));
          at += cut;
        }
        expect(reader.linkType).toBe(276);
        expect(found.map(({ at, bytes }) => [at, [...bytes]])).toEqual(
          capture.records.map(({ seconds, fraction, bytes }) => [
            BigInt(seconds) * 1_000_000_000n + BigInt(fraction) * (capture.nano ? 1n : 1000n),
            [...bytes],
          ]),
        );
      }),
    );
  });

  it('gives nothing for a piece of one, and its own error for anything else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        const reader = new PcapReader();
        try {
          for (const record of reader.push(bytes)) expect(record.bytes.length).toBeLessThanOrEqual(bytes.length);
        } catch (error) {
          expect(error).toMatchObject({ code: 'TRACE_PCAP' });
        }
      }),
    );
    expect(new PcapReader().push(new Uint8Array(23))).toEqual([]);
    expect(() => new PcapReader().push(new Uint8Array(24))).toThrow(/magic number 0x0/);
  });
});
