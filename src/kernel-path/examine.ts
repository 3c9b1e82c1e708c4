/** Would the kernel path run here? Asked without attaching anything, for people who want to see the programs and the kernel's opinion. */
import { messageOf } from '../base/errors.js';
import { BPF_PROG_TYPE_SCHED_CLS } from '../linux/bpf.js';
import type { Program } from './assembler/assembler.js';
import { Bpf } from './bpf.js';
import { conntrackPlaces } from './conntrack.js';
import { closeMaps, createMaps } from './maps.js';
import { decapProgram } from './programs/decap.js';
import { deliverProgram } from './programs/deliver.js';
import { encapProgram } from './programs/encap.js';
import { mergedProgram } from './programs/merged.js';
import type { InboundMode, ProgramSettings } from './programs/settings.js';

export interface ProgramReport {
  readonly name: string;
  /** One line an instruction. */
  readonly listing: string;
  readonly accepted: boolean;
  /** Empty when the kernel did not come to look. */
  readonly verifierLog: string;
}

export interface KernelPathReport {
  readonly mode: InboundMode;
  /** Why the kernel path would not run in this mode; empty when it would. */
  readonly refusal: string;
  readonly programs: readonly ProgramReport[];
}

/** Of any overlay: what the verifier says does not depend on it. */
const EXAMPLE: ProgramSettings = {
  network: { address: 0x0a050000, length: 16 },
  subnet: { address: 0x0a050100, length: 24 },
  address: 0xc0000201,
  port: 8285,
  underlayIfindex: 1,
  tunIfindex: 1,
};

/** Makes maps, has all programs of each mode verified, and removes everything again. Never throws. */
export function examineKernelPath(bpf: Bpf = new Bpf(), settings: ProgramSettings = EXAMPLE): KernelPathReport[] {
  return (['route', 'direct'] as const).map((mode) => {
    try {
      const places = mode === 'direct' ? conntrackPlaces() : null;
      const programs = verifyAll(bpf, [
        encapProgram(settings, places),
        decapProgram(settings, mode),
        deliverProgram(settings),
        mergedProgram(settings, mode),
      ]);
      const refused = programs.filter(({ accepted }) => !accepted).map(({ name }) => name);
      return { mode, refusal: refused.length === 0 ? '' : `the kernel refuses ${refused.join(' and ')}`, programs };
    } catch (error) {
      return { mode, refusal: messageOf(error), programs: [] };
    }
  });
}

function verifyAll(bpf: Bpf, programs: readonly Program[]): ProgramReport[] {
  const maps = createMaps(bpf, { peers: 1, containers: 1, flows: 1 });
  try {
    return programs.map((program) => {
      const { accepted, log } = bpf.verify(program.name, BPF_PROG_TYPE_SCHED_CLS, program.bytes(maps));
      return { name: program.name, listing: program.listing(), accepted, verifierLog: log };
    });
  } finally {
    closeMaps(bpf, maps);
  }
}
