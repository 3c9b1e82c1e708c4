import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cleanEnvironment } from '../../base/exec.js';
import { forEach } from '../each.js';
import { LabError } from '../errors.js';
import { patient } from '../patience.js';
import { waitFor } from '../wait.js';
import type { Sighting } from './flight.js';
import { type Carrier, readPacket } from './packet.js';
import { PcapReader, type PcapRecord } from './pcap.js';
import type { TraceLab } from './subject.js';

/** LINKTYPE_LINUX_SLL2: all devices of a namespace in one capture, each packet with its device and direction. */
const LINUX_SLL2 = 276;
const SLL2_HEADER = 20;
const SLL2_INTERFACE = 4;
const SLL2_PACKET_TYPE = 10;
const PACKET_OUTGOING = 4;
/** The loopback device is the first one of every namespace. */
const LOOPBACK_INDEX = 1;
/** Headers, a marker and what an ICMP error quotes. A frame of the kernel's ring is as long, so long ones would be few. */
const SNAP_LENGTH = 1024;
/** KiB, some 4,000 packets. */
const RING = 4096;
/** More than a trace ever sees: whoever captures during a bulk transfer must not fill the memory. */
const MOST_PACKETS = 20_000;

/** Devices in which the kernel path has packets merged, on their way between two of its programs (docs/kernel-path.md). */
const MERGE_PAIR = /^tweed\d+-(in|out)$/;

const FENCE = Buffer.from('fence of a trace');

/** Where is captured, and what its devices are called. */
export interface CapturePoint {
  readonly place: string;
  /** By their numbers. */
  readonly devices: ReadonlyMap<number, string>;
}

/**
 * Runs a program until it ends or standard input does: a signal would end what runs in a Docker container's place only here,
 * and a trace that is killed would leave it behind.
 */
const UNTIL_INPUT_ENDS = '"$@" & child=$!; exec 3<&0; { read -r _ <&3; kill $child; } >/dev/null 2>&1 & wait $child';

/** tcpdump on all devices of a namespace. */
export class Capture {
  readonly #lab: TraceLab;
  readonly #point: CapturePoint;
  readonly #child: ChildProcess;
  readonly #reader = new PcapReader();
  readonly #records: PcapRecord[] = [];
  #fenced = false;
  #errors = '';
  #failure: unknown = null;

  private constructor(lab: TraceLab, point: CapturePoint) {
    this.#lab = lab;
    this.#point = point;
    const argv = ['tcpdump', '-i', 'any', '-y', 'LINUX_SLL2', '--time-stamp-precision=nano', '--immediate-mode'];
    // -U: each packet at once; -Z root: as itself, for the namespace may hide where another user's files are
    argv.push('-s', String(SNAP_LENGTH), '-B', String(RING));
    argv.push('-U', '-Z', 'root', '-w', '-', 'not arp and not tcp port 2379');
    this.#child = lab.spawn(point.place, ['sh', '-c', UNTIL_INPUT_ENDS, 'sh', ...argv], {
      stdio: 'pipe',
      env: cleanEnvironment(),
    });
    this.#child.stdin?.on('error', () => {}); // told by the program's end
    this.#child.on('error', (error) => {
      this.#errors += error.message;
    });
    this.#child.stderr?.on('data', (chunk) => {
      this.#errors += chunk;
    });
    this.#child.stdout?.on('data', (chunk: Buffer) => this.#take(chunk));
  }

  /** Captures from when this resolves. */
  static async start(lab: TraceLab, point: CapturePoint): Promise<Capture> {
    const capture = new Capture(lab, point);
    try {
      await waitFor(`tcpdump in ${point.place}`, () => capture.#isListening());
      return capture;
    } catch (error) {
      await capture.stop();
      throw error;
    }
  }

  #isListening(): boolean {
    if (/listening on any/.test(this.#errors)) return true;
    if (this.#child.exitCode === null && this.#child.pid !== undefined) return false;
    const said = this.#errors.trim().split('\n').at(-1) ?? 'it ended';
    throw new LabError(
      'TRACE_CAPTURE',
      `tcpdump in ${this.#point.place} does not capture: ${said}; try it by \`lab exec\``,
    );
  }

  #take(chunk: Buffer): void {
    try {
      for (const record of this.#reader.push(chunk)) {
        if (interfaceOf(record) !== LOOPBACK_INDEX) {
          if (this.#records.length < MOST_PACKETS) this.#records.push(record);
        } else if (Buffer.from(record.bytes).includes(FENCE)) this.#fenced = true;
      }
    } catch (error) {
      this.#failure = error;
      this.#child.stdin?.end();
    }
  }

  /**
   * Waits until everything is here that passed before the call: a packet to the namespace itself is waited for, which is
   * captured by the same queue behind them.
   */
  async settle(): Promise<void> {
    this.#fenced = false;
    const ping = ['ping', '-n', '-q', '-c', '1', '-W', '1', '-p', FENCE.toString('hex'), '127.0.0.1'];
    await this.#lab.exec(this.#point.place, ping, { tolerate: true, timeoutMs: patient(30_000) });
    await waitFor(`the capture of ${this.#point.place}`, () => {
      if (this.#failure !== null) throw this.#failure;
      if (this.#child.exitCode !== null) this.#isListening();
      return this.#fenced;
    });
  }

  /** What was captured so far, in the order in which it passed. */
  sightings(carrier: Carrier | null): Sighting[] {
    if (this.#reader.linkType !== null && this.#reader.linkType !== LINUX_SLL2) {
      throw new LabError('TRACE_CAPTURE', 'tcpdump has no capture of all devices; its libpcap must be 1.10 or newer');
    }
    return this.#records.flatMap(({ at, bytes }) => {
      if (bytes.length < SLL2_HEADER) return [];
      const packet = readPacket(bytes.subarray(SLL2_HEADER), carrier);
      const device = this.#point.devices.get(interfaceOf({ bytes })) ?? `device ${interfaceOf({ bytes })}`;
      const direction = bytes[SLL2_PACKET_TYPE] === PACKET_OUTGOING ? 'out' : 'in';
      return packet === null || MERGE_PAIR.test(device)
        ? []
        : [{ place: this.#point.place, device, direction, at, packet }];
    });
  }

  get place(): string {
    return this.#point.place;
  }

  /** How many packets the kernel had no room for; told when tcpdump has ended. */
  get lost(): number {
    return Number(/(\d+) packets? dropped by kernel/.exec(this.#errors)?.[1] ?? 0);
  }

  async stop(): Promise<void> {
    const ended = this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined;
    const closed = ended ? null : once(this.#child, 'close');
    this.#child.stdin?.end();
    await closed;
  }
}

function interfaceOf({ bytes }: Pick<PcapRecord, 'bytes'>): number {
  if (bytes.length < SLL2_HEADER) return 0;
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(SLL2_INTERFACE);
}

export interface Captured {
  /** In the order of time. */
  readonly sightings: readonly Sighting[];
  /** Places whose capture is not whole. */
  readonly incomplete: readonly string[];
}

/** Captures at all points while the work is done. */
export async function captureWhile(
  lab: TraceLab,
  points: readonly CapturePoint[],
  carrier: Carrier | null,
  work: () => Promise<void>,
): Promise<Captured> {
  const captures: Capture[] = [];
  try {
    await forEach(points, async (point) => {
      captures.push(await Capture.start(lab, point));
    });
    await work();
    await forEach(captures, (capture) => capture.settle());
    await Promise.all(captures.map((capture) => capture.stop()));
    const sightings = captures.flatMap((capture) => capture.sightings(carrier));
    // stable: what one place saw at the same moment stays in the order in which it passed there
    sightings.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
    return { sightings, incomplete: captures.filter(({ lost }) => lost > 0).map(({ place }) => place) };
  } finally {
    await Promise.all(captures.map((capture) => capture.stop()));
  }
}
