import { messageOf } from '../../base/errors.js';
import { plural } from '../../base/plural.js';
import { LabOptionError } from '../errors.js';
import { labWords } from '../hints.js';
import { Lab } from '../lab.js';
import type { Progress } from '../progress.js';
import { Guide } from './guide.js';
import { type Stop, type TourLabKind, tourLabs } from './stop.js';
import { containerStops } from './stops/container.js';
import { faultStops } from './stops/faults.js';
import { outsideStops } from './stops/outside.js';
import { overlayStops } from './stops/overlay.js';

/** In the order in which each builds on those before it. */
export const tourStops: readonly Stop[] = [
  containerStops.namespaces,
  containerStops.veth,
  containerStops.bridge,
  outsideStops.gateway,
  outsideStops.publish,
  containerStops.modes,
  overlayStops.udp,
  overlayStops.vxlan,
  overlayStops.kernel,
  faultStops.mtu,
  faultStops.port,
];

/** @throws LabOptionError for a name that no stop has */
export function chooseStops(names: readonly string[]): readonly Stop[] {
  if (names.length === 0) return tourStops;
  return names.map((name) => {
    const stop = tourStops.find((one) => one.name === name);
    if (stop !== undefined) return stop;
    const known = tourStops.map((one) => one.name).join(', ');
    throw new LabOptionError(`"${name}" is no stop of the tour; there are ${known}`);
  });
}

export function formatStops(): string {
  const width = Math.max(...tourStops.map(({ name }) => name.length));
  return tourStops.map(({ name, title }) => `${name.padEnd(width)}  ${title}`).join('\n');
}

export interface TourSettings {
  /** Of the labs, which are made for the tour: others begin with it. */
  readonly name: string;
  /** Leave the labs up, to go on by hand. */
  readonly keep: boolean;
  readonly write: (line: string) => void;
  /** Waits for the reader. */
  readonly pause?: () => Promise<void>;
  readonly progress: Progress;
  readonly signal?: AbortSignal;
}

export interface TourResult {
  readonly walked: number;
  readonly claims: number;
  /** Stops that told what was not so, or came to no end, with why. */
  readonly failed: readonly { readonly name: string; readonly why: string }[];
}

/** Walks the stops, each to its end or to what is not so there; labs are made when the first stop needs them. */
export async function walkTour(stops: readonly Stop[], settings: TourSettings): Promise<TourResult> {
  const { name, keep, write, pause, progress, signal } = settings;
  const labs = new Map<TourLabKind, Lab>();
  const failed: { name: string; why: string }[] = [];
  let claims = 0;
  try {
    for (const [index, stop] of stops.entries()) {
      signal?.throwIfAborted();
      write('');
      write(`━━ ${index + 1} of ${stops.length}: ${stop.title} (${stop.name})`);
      const lab = labs.get(stop.lab) ?? (await makeLab(labNameOf(name, stop.lab), stop.lab, progress, signal));
      labs.set(stop.lab, lab);
      const guide = new Guide(lab, write, pause);
      try {
        await stop.walk(guide);
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        failed.push({ name: stop.name, why: messageOf(error) });
        write(`✗ ${messageOf(error)}`);
      }
      claims += guide.claims;
      if (index < stops.length - 1 || !keep) await pause?.();
    }
  } finally {
    write('');
    for (const [kind, lab] of labs) {
      await lab.close();
      if (keep) write(`lab ${lab.name} stays up; take it down: ${labWords(lab.name, 'down')}`);
      else await progress.step(`take lab ${labNameOf(name, kind)} down`, () => Lab.down(lab.name));
    }
  }
  return { walked: stops.length, claims, failed };
}

function labNameOf(name: string, kind: TourLabKind): string {
  return kind === 'udp' ? name : `${name}-${kind}`;
}

function makeLab(name: string, kind: TourLabKind, progress: Progress, signal: AbortSignal | undefined): Promise<Lab> {
  const { hosts, containers } = tourLabs[kind];
  const title = `a lab of ${plural(hosts, 'host')} with ${plural(containers, 'container')} each, named ${name}`;
  return progress.step(title, () => Lab.up({ name, ...tourLabs[kind] }, { signal }));
}

export function formatTourResult({ walked, claims, failed }: TourResult): string {
  if (failed.length === 0) return `${plural(walked, 'stop')}, ${claims} things told, and each was so`;
  const lines = failed.map(({ name, why }) => `✗ ${name}: ${why}`);
  return [...lines, `${failed.length} of ${plural(walked, 'stop')} told what is not so here`].join('\n');
}
