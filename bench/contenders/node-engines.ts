/** The lower rungs of the ladder: tunnels on tweed's wire format that the benchmark brings along. */
import { builtFile } from '../harness/paths.js';
import type { Contender } from './contender.js';
import { startEngines } from './engine.js';

const MTU = 1472;

export const dgram = makeEngine(
  'dgram',
  'node:dgram',
  'what plain Node gives: asynchronous reads of the TUN device by libuv’s thread pool, node:dgram for UDP',
);

export const batched = makeEngine(
  'batched',
  'many packets per call',
  'sendmmsg and recvmmsg of up to 64 packets; the TUN device has no such call and is read and written packet by packet',
);

function makeEngine(id: string, title: string, description: string): Contender {
  return {
    id,
    title,
    description: `bench/engines/${id}.ts: ${description}; MTU ${MTU}`,
    encrypted: false,
    mtu: MTU,
    unavailable: async () => '',
    start: (pair) =>
      startEngines(pair, MTU, (...settings) => [process.execPath, builtFile(`engines/${id}`), ...settings]),
  };
}
