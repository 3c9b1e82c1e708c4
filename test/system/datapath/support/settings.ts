/** The settings of the offload switches that tests go through. */
import { AUTO, type Offload, type Offloads } from './host.js';

/** Not left to tweed, which does without it on kernels that may get it wrong. */
export const ON: Offloads = { ...AUTO, udpGso: 'on' };

const names = Object.keys(AUTO) as Offload[];

/** All 32 settings of the switches. */
export const everySetting: readonly Offloads[] = Array.from({ length: 1 << names.length }, (_, bits) => {
  const isOn = (i: number) => ((bits >> i) & 1) === 1;
  return Object.fromEntries(names.map((name, i) => [name, isOn(i) ? ON[name] : 'off'])) as unknown as Offloads;
});

export function describeSetting(offloads: Offloads): string {
  return names.filter((name) => offloads[name] !== 'off').join(' ') || 'all off';
}
