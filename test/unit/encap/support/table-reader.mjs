// A forwarder that does nothing but look peers up, in a thread of its own, on the built product. It says how many turns it
// has made in `progress[0]` and stops when `progress[1]` is set; what it saw that can never be right it posts at once.
import { parentPort, workerData } from 'node:worker_threads';
import { ControlBlock } from '../../../../dist/encap/forwarding/control-block.js';
import { PEER_BYTES, PEER_SOCKADDR } from '../../../../dist/encap/forwarding/peer-record.js';
import { lookup, NO_VALUE } from '../../../../dist/encap/forwarding/prefix-table.js';
import { SharedMemory } from '../../../../dist/linux/memory.js';
import { SOCKADDR_ADDRESS, toNetworkOrder } from '../../../../dist/linux/structs.js';

/** `stable`: inner addresses and the hosts that they always lead to; `passing`: those and the hosts that they may. */
const { layout, thread, stable, passing, progress } = workerData;
const memory = SharedMemory.attach(workerData.memory);
const { i32 } = memory;
const control = new ControlBlock(i32, layout.control);

const peerOf = (inner) => lookup(i32, layout.subnets >>> 2, layout.subnetShift, inner);
const addressOf = (peer) =>
  toNetworkOrder(i32[(layout.peers + peer * PEER_BYTES + PEER_SOCKADDR + SOCKADDR_ADDRESS) >>> 2]) >>> 0;
const isSender = (address) => lookup(i32, layout.senders >>> 2, layout.senderShift, address) !== NO_VALUE;

function wrong(what, inner, peer) {
  parentPort.postMessage(`${what} ${inner.toString(16)}: peer ${peer}`);
}

/** Looks all of them up, and what passes again after the others: it must stand for the same peer until the turn ends. */
function turn(held) {
  for (const { inner, host } of stable) {
    const peer = peerOf(inner);
    if (peer === NO_VALUE || addressOf(peer) !== host) wrong('stable', inner, peer);
    if (!isSender(host)) wrong('sender', inner, peer);
  }
  for (let i = 0; i < passing.length; i++) held[i] = peerOf(passing[i].inner);
  for (let i = 0; i < passing.length; i++) {
    const { inner, hosts, always } = passing[i];
    if (held[i] === NO_VALUE ? always : !hosts.includes(addressOf(held[i]))) wrong('passing', inner, held[i]);
  }
}

const held = new Int32Array(passing.length);
while (Atomics.load(progress, 1) === 0) {
  control.enterTurn(thread);
  turn(held);
  control.leaveTurn(thread);
  Atomics.add(progress, 0, 1);
}
