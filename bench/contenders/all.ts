import { cLoop } from './c-loop.js';
import type { Contender } from './contender.js';
import { batched, dgram } from './node-engines.js';
import { peers } from './peers/all.js';
import { direct, kernelDirect, kernelRoute, ofIpv6, tweed, tweedOff, tweedWireguard, vxlan } from './tweed.js';

/** Everybody who can be measured, in the order in which tables show them. */
export const contenders: readonly Contender[] = [
  direct,
  vxlan,
  kernelDirect,
  kernelRoute,
  tweed,
  tweedOff,
  tweedWireguard,
  batched,
  dgram,
  cLoop,
  ...ofIpv6,
  ...peers,
];
