import type { LabOptions } from '../options.js';
import type { Guide } from './guide.js';

/** One lesson: what is told and shown, and what has to be so for it to be true. */
export interface Stop {
  /** One word, to choose it by. */
  readonly name: string;
  readonly title: string;
  /** The lab that it is shown in; stops that want the same share one. */
  readonly lab: TourLabKind;
  /** Leaves the lab as it was. @throws TourError when what it tells is not so */
  walk(guide: Guide): Promise<void>;
}

/** What is told is told of IPv4: with both families each output would be twice as long. */
const ipFamilies = 'ipv4';
const modes = ['c3=none', 'c4=host', 'c5=container:c1'];

/** What the labs are made of. They stand side by side, so that going back costs nothing. */
export const tourLabs = {
  udp: { ipFamilies, hosts: 2, containers: 5, modes },
  vxlan: { ipFamilies, hosts: 2, containers: 1, backend: 'vxlan' },
  kernel: { ipFamilies, hosts: 2, containers: 1, daemonArgs: ['--kernel-path=route'] },
} as const satisfies Record<string, Partial<LabOptions>>;

export type TourLabKind = keyof typeof tourLabs;

/** The device's addresses and all that: the text between, of the first match; empty for none. */
export function found(text: string, pattern: RegExp): string {
  return pattern.exec(text)?.[1] ?? '';
}
