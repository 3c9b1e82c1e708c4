/**
 * The program on the way out of a bridge: hands a super-packet of the overlay to the link of its container, and spares it the bridge.
 *
 * Theory of operation. A packet that comes in by route has been routed, filtered and translated, and has its Ethernet header,
 * when it gets to the bridge's way out; all that is left is to find the port. The kernel would cut it there: a super-packet out of
 * whose datagram a program has taken it still counts as encapsulated, and bridges cannot have such ones cut later. The
 * container's link can, so what goes to it from here stays whole. Only the bridge's own forwarding is passed by, and only
 * where it would have done the same: containers.ts and bridges.ts say when that is certain. Everything else, all that is no super-packet
 * too, passes as if this program were not there.
 */
import { Assembler, type Program, r0, r1, r2, r6, r7, r9, r10 } from '../assembler/assembler.js';
import { SK_BUFF, TC_ACT_UNSPEC } from '../assembler/symbols.js';
import {
  CONTAINER_BRIDGE,
  CONTAINER_IFINDEX,
  CONTAINER_KEY_BYTES,
  CONTAINER_MACS,
  ETHERNET_BYTES,
  PAST_BRIDGE,
} from '../maps.js';
import { IP, lookUp, reach, swap16, whileTended } from './blocks.js';
import type { ProgramSettings } from './settings.js';

const ETH_P_IP = 0x0800;

export const DELIVER_PROGRAM = 'tweed_deliver';

export function deliverProgram({ tunIfindex }: Pick<ProgramSettings, 'tunIfindex'>): Program {
  const asm = new Assembler(DELIVER_PROGRAM, SK_BUFF);
  const key = asm.slot(CONTAINER_KEY_BYTES);
  const time = asm.slot(8);
  asm
    .remark('a super-packet that came in by the overlay')
    .alu(r6, '=', r1)
    .field(r1, r6, 'gso_size')
    .jumpIf(r1, '==', 0, 'leave')
    .field(r1, r6, 'ingress_ifindex')
    .jumpIf(r1, '!=', tunIfindex, 'leave')
    .field(r1, r6, 'protocol')
    .jumpIf(r1, '!=', swap16(ETH_P_IP), 'leave')
    .field(r1, r6, 'vlan_present')
    .jumpIf(r1, '!=', 0, 'leave')
    .field(r1, r6, 'len')
    .jumpIf(r1, '<', ETHERNET_BYTES + IP.header, 'leave');
  reach(asm, ETHERNET_BYTES + IP.header, 'leave', 'headers_in_reach');
  asm
    .remark('for a container behind this bridge, at the MAC address at which it is known')
    .load(4, r1, r9, ETHERNET_BYTES + IP.destination)
    .store(4, r10, key, r1);
  lookUp(asm, 'containers', key);
  asm
    .jumpIf(r0, '==', 0, 'leave')
    .load(4, r7, r0, CONTAINER_IFINDEX)
    .field(r1, r6, 'ifindex')
    .load(4, r2, r0, CONTAINER_BRIDGE)
    .jumpIf(r1, '!=', r2, 'leave')
    .load(4, r1, r9, 0)
    .load(4, r2, r0, CONTAINER_MACS)
    .jumpIf(r1, '!=', r2, 'leave')
    .load(2, r1, r9, 4)
    .load(2, r2, r0, CONTAINER_MACS + 4)
    .jumpIf(r1, '!=', r2, 'leave')
    .call('ktime_get_ns')
    .store(8, r10, time, r0);
  whileTended(asm, key, time, 'leave');
  lookUp(asm, 'counters', key);
  asm
    .jumpIf(r0, '==', 0, 'leave')
    .load(8, r1, r0, PAST_BRIDGE)
    .alu(r1, '+=', 1)
    .store(8, r0, PAST_BRIDGE, r1)
    .remark('programs and queues of its link have their turn')
    .alu(r1, '=', r7)
    .alu(r2, '=', 0)
    .call('redirect')
    .exit()
    .label('leave')
    .alu(r0, '=', TC_ACT_UNSPEC)
    .exit();
  return asm.assemble();
}
