/** Gathers the parts of a report side by side; what fails, or takes too long, costs itself and is told of in its place. */
import { gzipSync } from 'node:zlib';
import { messageOf } from '../../base/errors.js';
import { alignColumns } from '../format.js';
import { tarArchive } from './tar.js';

/** One file of the report. */
export interface ReportPart {
  /** Its name in the archive. */
  readonly file: string;
  /** What it tells, for the list of contents. */
  readonly about: string;
  /** Which end is kept of what is too long. */
  readonly keep?: 'start' | 'end';
  readonly gather: () => Promise<string>;
}

export interface GatheredPart {
  readonly file: string;
  readonly about: string;
  readonly text: string;
  /** Empty when it could be had whole. */
  readonly remark: string;
}

export interface GatherLimits {
  /** Of a part, in bytes of UTF-8. */
  readonly bytes: number;
  readonly milliseconds: number;
}

export const REPORT_LIMITS: GatherLimits = { bytes: 512 * 1024, milliseconds: 30_000 };

/** All parts, each bounded and without secrets. Never rejects. @param clean takes secrets out of a text */
export function gatherParts(
  parts: readonly ReportPart[],
  clean: (text: string) => string,
  limits: GatherLimits = REPORT_LIMITS,
): Promise<readonly GatheredPart[]> {
  return Promise.all(parts.map((part) => gatherPart(part, clean, limits)));
}

async function gatherPart(
  { file, about, keep = 'start', gather }: ReportPart,
  clean: (text: string) => string,
  limits: GatherLimits,
): Promise<GatheredPart> {
  let timer: NodeJS.Timeout | undefined;
  const tooLong = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not there after ${limits.milliseconds / 1000} s`)), limits.milliseconds);
  });
  try {
    // Cleaned before it is cut, for a half of a secret is not known as one.
    const whole = Buffer.from(clean(await Promise.race([Promise.resolve().then(gather), tooLong])));
    if (whole.length <= limits.bytes) return { file, about, text: whole.toString(), remark: '' };
    const cut = keep === 'start' ? whole.subarray(0, limits.bytes) : whole.subarray(-limits.bytes);
    return { file, about, text: cut.toString(), remark: `cut: the ${keep} of ${whole.length} bytes` };
  } catch (error) {
    const reason = clean(messageOf(error));
    return { file, about, text: `could not be had: ${reason}\n`, remark: `could not be had: ${reason}` };
  } finally {
    clearTimeout(timer);
  }
}

/** The list of contents: what each file is, and what could not be had. */
export function listContents(parts: readonly GatheredPart[]): string {
  const rows = parts.map(({ file, about, remark, text }) => [file, `${Buffer.byteLength(text)} B`, about, remark]);
  return `${alignColumns([['file', 'size', 'what it tells', 'remarks'], ...rows]).join('\n')}\n`;
}

/** A gzipped tar archive with one folder. @param at milliseconds since the epoch */
export function archiveReport(folder: string, preface: string, parts: readonly GatheredPart[], at: number): Buffer {
  const contents = { file: 'README.txt', text: `${preface}\n${listContents(parts)}` };
  const files = [contents, ...parts].map(({ file, text }) => ({
    name: `${folder}/${file}`,
    content: Buffer.from(text),
  }));
  return gzipSync(tarArchive(files, at / 1000));
}
