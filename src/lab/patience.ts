import { LabOptionError } from './errors.js';

/**
 * How many times longer than on an ordinary machine the lab and the tests wait for something before they give up:
 * TWEED_PATIENCE, 1 when it is not set. A slow machine, such as an emulated one, needs more; nothing gets slower by it.
 */
export const patienceFactor = readPatience(process.env.TWEED_PATIENCE);

/** Milliseconds that are waited at most, on this machine. */
export function patient(milliseconds: number): number {
  return milliseconds * patienceFactor;
}

export function readPatience(text = ''): number {
  const factor = text === '' ? 1 : Number(text);
  if (factor >= 1 && factor <= 1000) return factor;
  throw new LabOptionError(`TWEED_PATIENCE=${text}: it must be a number of 1 to 1000`);
}
