/** The settings of the offload switches that tests go through. */
import { AUTO, type Offload, type Offloads } from './host.js';

/** Not left to tweed, which does without it on kernels that may get it wrong. */
export const ON: Offloads = { ...AUTO, udpGso: 'on' };

const names = Object.keys(AUTO) as Offload[];

/** All 32 settings of the switches. */
const everySetting: readonly Offloads[] = Array.from({ length: 1 << names.length }, (_, bits) => {
  const isOn = (i: number) => ((bits >> i) & 1) === 1;
  return Object.fromEntries(names.map((name, i) => [name, isOn(i) ? ON[name] : 'off'])) as unknown as Offloads;
});

/**
 * The half of them with an even or an odd number of switches that are on: any four of the five switches meet in all of their
 * combinations, in either half.
 */
export function halfOfSettings(parity: 'even' | 'odd'): readonly Offloads[] {
  const isOdd = (setting: Offloads) => names.filter((name) => setting[name] !== 'off').length % 2 === 1;
  return everySetting.filter((setting) => isOdd(setting) === (parity === 'odd'));
}

export function describeSetting(offloads: Offloads): string {
  return names.filter((name) => offloads[name] !== 'off').join(' ') || 'all off';
}
