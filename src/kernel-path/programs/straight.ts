/** Pieces of the programs that hand packets on: straight to their container, or to the host as if the TUN had delivered them. */
import { r0, r1, r2, r3, r4, r5, r6, r7, r10 } from '../assembler/assembler.js';
import { REDIRECT_INGRESS } from '../assembler/symbols.js';
import { CONTAINER_IFINDEX, CONTAINER_MACS, FLOW_CONTAINER } from '../maps.js';
import { lookUp, type PacketAssembler, whileTended } from './blocks.js';
import { checkFlow, type FlowSlots } from './flows.js';

const MAC_BYTES = 6;

/**
 * Leaves the container's record in r7 where the packet may go straight to it; 0 where nobody knows it or the packet has to go by route.
 *
 * @param offset of the inner IPv4 header
 * @param key slot of the stack for whatever map is looked up
 */
export function findContainer(asm: PacketAssembler, offset: number, key: number, flow: FlowSlots): void {
  asm.remark('r7: where the container is, 0 if nobody knows or the packet has to go by route').alu(r7, '=', 0);
  checkFlow(asm, offset, flow, 'by_route');
  whileTended(asm, key, flow.time, 'by_route');
  asm.load(4, r1, r10, flow.key + FLOW_CONTAINER).store(4, r10, key, r1);
  lookUp(asm, 'containers', key);
  asm.alu(r7, '=', r0).label('by_route');
}

export function takeMacSlot(asm: PacketAssembler): number {
  return asm.slot(2 * MAC_BYTES);
}

/** Ends the program with the packet at the container of r7. Goes on behind it where that is 0. */
export function goStraight(asm: PacketAssembler, macs: number, failed: string): void {
  asm.jumpIf(r7, '==', 0, 'to_the_tun').remark('straight to the container, past bridge, routes and firewall');
  for (let at = 0; at < 2 * MAC_BYTES; at += 4) {
    asm.load(4, r1, r7, CONTAINER_MACS + at).store(4, r10, macs + at, r1);
  }
  asm
    .alu(r1, '=', r6)
    .alu(r2, '=', 0)
    .alu(r3, '=', r10)
    .alu(r3, '+=', macs)
    .alu(r4, '=', 2 * MAC_BYTES)
    .alu(r5, '=', 0)
    .call('skb_store_bytes')
    .jumpIf(r0, '!=', 0, failed)
    .load(4, r1, r7, CONTAINER_IFINDEX)
    .alu(r2, '=', 0)
    .call('redirect_peer')
    .exit()
    .label('to_the_tun');
}

/** Ends the program. */
export function goByRoute(asm: PacketAssembler, tunIfindex: number): void {
  asm
    .remark('as if the TUN had delivered it: routes, rules and counters of the host apply')
    .alu(r1, '=', tunIfindex)
    .alu(r2, '=', REDIRECT_INGRESS)
    .call('redirect')
    .exit();
}
