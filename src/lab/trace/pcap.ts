import { LabError } from '../errors.js';

/** One captured packet. */
export interface PcapRecord {
  /** Nanoseconds since 1970. */
  readonly at: bigint;
  /** What was kept of it, from the link's header on. */
  readonly bytes: Uint8Array;
}

const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const MICROSECOND_MAGIC = 0xa1b2c3d4;
const NANOSECOND_MAGIC = 0xa1b23c4d;
/** libpcap's MAXIMUM_SNAPLEN: a longer record is none. */
const LONGEST_RECORD = 262_144;

/**
 * Reads what `tcpdump -w -` writes, as it comes: pieces of any size, either byte order, times in micro- or nanoseconds
 * (draft-ietf-opsawg-pcap).
 */
export class PcapReader {
  #rest = new Uint8Array(0);
  #header: { readonly littleEndian: boolean; readonly perUnit: bigint; readonly linkType: number } | null = null;

  /** LINKTYPE_… of the packets; null until the header of the stream has come. */
  get linkType(): number | null {
    return this.#header?.linkType ?? null;
  }

  /**
   * @returns the packets that are complete with this piece
   * @throws LabError (`TRACE_PCAP`) when the stream is no capture
   */
  push(chunk: Uint8Array): PcapRecord[] {
    const bytes = new Uint8Array(this.#rest.length + chunk.length);
    bytes.set(this.#rest);
    bytes.set(chunk, this.#rest.length);
    const view = new DataView(bytes.buffer);
    let at = 0;
    if (this.#header === null) {
      if (bytes.length < FILE_HEADER) {
        this.#rest = bytes;
        return [];
      }
      this.#header = readFileHeader(view);
      at = FILE_HEADER;
    }
    const { littleEndian, perUnit } = this.#header;
    const records: PcapRecord[] = [];
    while (bytes.length - at >= RECORD_HEADER) {
      const length = view.getUint32(at + 8, littleEndian);
      if (length > LONGEST_RECORD) throw notPcap(`a packet of ${length} bytes`);
      if (bytes.length - at < RECORD_HEADER + length) break;
      const seconds = BigInt(view.getUint32(at, littleEndian));
      const fraction = BigInt(view.getUint32(at + 4, littleEndian));
      const start = at + RECORD_HEADER;
      records.push({ at: seconds * 1_000_000_000n + fraction * perUnit, bytes: bytes.slice(start, start + length) });
      at = start + length;
    }
    this.#rest = bytes.slice(at);
    return records;
  }
}

function readFileHeader(view: DataView): { littleEndian: boolean; perUnit: bigint; linkType: number } {
  for (const littleEndian of [true, false]) {
    const magic = view.getUint32(0, littleEndian);
    if (magic !== MICROSECOND_MAGIC && magic !== NANOSECOND_MAGIC) continue;
    const perUnit = magic === NANOSECOND_MAGIC ? 1n : 1000n;
    // the upper bits say whether frames end with a checksum; the link type is in the lower 16
    return { littleEndian, perUnit, linkType: view.getUint32(20, littleEndian) & 0xffff };
  }
  throw notPcap(`the magic number 0x${view.getUint32(0).toString(16)}`);
}

function notPcap(what: string): LabError {
  return new LabError(
    'TRACE_PCAP',
    `tcpdump wrote no capture but ${what}; is it a usual tcpdump? Try tcpdump --version`,
  );
}
