import { cLoop } from './c-loop.js';
import type { Contender } from './contender.js';
import { batched, dgram } from './node-engines.js';
import { peers } from './peers/all.js';
import { direct, kernelDirect, kernelRoute, tweed, tweedOff, vxlan } from './tweed.js';

/** Everybody who can be measured, in the order in which tables show them. */
export const contenders: readonly Contender[] = [
  direct,
  vxlan,
  kernelDirect,
  kernelRoute,
  tweed,
  tweedOff,
  batched,
  dgram,
  cLoop,
  ...peers,
];
