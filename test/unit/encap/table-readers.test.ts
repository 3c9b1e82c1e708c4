import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import type { Prefix } from '../../../src/base/ipv4.js';
import { ControlBlock, THREADS } from '../../../src/encap/forwarding/control-block.js';
import { ForwardingTable, type Peer } from '../../../src/encap/forwarding/forwarding-table.js';
import { planLayout } from '../../../src/encap/forwarding/layout.js';
import { SharedMemory } from '../../../src/linux/memory.js';
import { prefix } from './support/workbench.js';

const script = new URL('support/table-reader.mjs', import.meta.url);
const built = fileURLToPath(new URL('../../../dist/encap/forwarding/prefix-table.js', import.meta.url));

const NETWORK = prefix('10.0.0.0/8');
const NETWORKS = { ipv4: NETWORK, ipv6: null };
const TURNS = 20_000;
const ROUNDS = 3000;

/** A subnet of 10.0.0.0/8 and its host, whose address, 172.0.0.0 and up, follows from the subnet's. */
function peerAt(at: number, length: number): Peer & { readonly subnet: Prefix } {
  return { subnet: { address: NETWORK.address + at, length }, publicIp: 0xac00_0000 + at / 64 };
}

it('threads that read while peers come and go see those that stay, and never one peer for another', async () => {
  if (!existsSync(built)) throw new Error('this test runs the built product: npm run build');
  // so few that every number and node is used again and again: for the peers that stay, and half of those that pass
  const layout = planLayout(NETWORKS, { peers: 60, subnetNodes: 90, senderNodes: 90 });
  const memory = SharedMemory.create(layout.bytes);
  const control = new ControlBlock(memory.i32, layout.control);
  const table = new ForwardingTable({ memory, layout, control, networks: NETWORKS, port: 8285 });
  // those that stay share nodes with those that pass (neighbours in a /24 or /16), have them alone, or lie around them
  const small = Array.from({ length: 24 }, (_, i) => peerAt((i * 1024 + (i % 3)) * 64, 26));
  const wide = Array.from({ length: 4 }, (_, i) => peerAt((200 + i) << 16, 16));
  const stable = [...small, ...wide];
  const beside = Array.from({ length: 48 }, (_, i) =>
    peerAt(((i % 24) * 1024 + 3 + Math.floor(i / 24) * 4 * (1 + (i % 5))) * 64, 26),
  );
  const within = Array.from({ length: 16 }, (_, i) => peerAt(((200 + (i % 4)) << 16) + i * 256 + 64, 26));
  const passing = [...beside, ...within];
  table.replaceAll(stable);
  const readersData = {
    stable: [
      ...stable.map(({ subnet, publicIp }) => ({ inner: subnet.address + 5, host: publicIp })),
      // beside those that come and go in its middle
      ...within.map(({ subnet }, i) => ({ inner: subnet.address + 64, host: wide[i % 4]!.publicIp })),
    ],
    passing: [
      ...beside.map(({ subnet, publicIp }) => ({ inner: subnet.address + 5, hosts: [publicIp], always: false })),
      ...within.map(({ subnet, publicIp }, i) => ({
        inner: subnet.address + 5,
        hosts: [publicIp, wide[i % 4]!.publicIp],
        always: true,
      })),
    ],
  };
  const wrong: unknown[] = [];
  const readers = Array.from({ length: THREADS }, (_, thread) => {
    const progress = new Int32Array(new SharedArrayBuffer(8));
    const worker = new Worker(script, {
      workerData: { ...readersData, memory: memory.memory, layout, thread, progress },
    });
    worker.on('message', (message) => wrong.push(message)).on('error', (error) => wrong.push(error));
    return { progress, ended: new Promise((resolve) => worker.once('exit', resolve)) };
  });
  const turns = () => Math.min(...readers.map(({ progress }) => Atomics.load(progress, 0)));
  const came = new Set<Peer>();
  let refused = 0;
  for (let round = 0; (round < ROUNDS || turns() < TURNS) && wrong.length === 0; round++) {
    const now = passing.filter((_, i) => Math.imul(i + 1, round * 2654435761) >>> 29 < 3);
    table.replaceAll([...stable, ...now]);
    refused += table.refused.length;
    for (const { publicIp } of table.refused) expect(stable.map((peer) => peer.publicIp)).not.toContain(publicIp);
    const gone = new Set(table.refused.map(({ publicIp }) => publicIp));
    for (const peer of now) if (!gone.has(peer.publicIp)) came.add(peer);
    if (round % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  for (const { progress } of readers) Atomics.store(progress, 1, 1);
  await Promise.all(readers.map(({ ended }) => ended));
  expect(wrong).toEqual([]);
  expect(came.size).toBe(passing.length);
  expect(refused).toBeGreaterThan(0);
});
