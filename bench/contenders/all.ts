import { cLoop } from './c-loop.js';
import type { Contender } from './contender.js';
import { direct } from './direct.js';
import { batched, dgram } from './node-engines.js';
import { peers } from './peers/all.js';
import { tweed, tweedOff } from './tweed.js';
import { vxlan } from './vxlan.js';

/** Everybody who can be measured, in the order in which tables show them. */
export const contenders: readonly Contender[] = [direct, vxlan, tweed, tweedOff, batched, dgram, cLoop, ...peers];
