/**
 * The program where merged packets come in (merge-pair.ts): hands on what the program on the underlay has checked and counted.
 *
 * Theory of operation. Whoever sends anything else into the pair is root. So nothing is checked again but what depends on the flow, which is
 * asked of a merged packet once: whether it may go straight to its container. GRO merges only what belongs together, and keeps in the
 * merged packet's flags what ends a connection. Nothing is dropped: what fails goes by route.
 */
import { Assembler, type Program, r0, r1, r2, r6, r8, r10 } from '../assembler/assembler.js';
import { PACKET_HOST, SK_BUFF } from '../assembler/symbols.js';
import { ETHERNET_BYTES, PREFIX_KEY_BYTES } from '../maps.js';
import { IP, reach } from './blocks.js';
import { takeFlowSlots } from './flows.js';
import type { InboundMode, ProgramSettings } from './settings.js';
import { findContainer, goByRoute, goStraight, takeMacSlot } from './straight.js';

export function mergedProgram({ tunIfindex }: Pick<ProgramSettings, 'tunIfindex'>, mode: InboundMode): Program {
  const asm = new Assembler('tweed_merged', SK_BUFF);
  const key = asm.slot(PREFIX_KEY_BYTES);
  const macs = takeMacSlot(asm);
  const flow = takeFlowSlots(asm);
  asm
    .remark('its Ethernet header is the underlay’s, so the kernel took it for somebody else’s')
    .alu(r6, '=', r1)
    .alu(r2, '=', PACKET_HOST)
    .call('skb_change_type');
  if (mode === 'direct') {
    asm
      .field(r8, r6, 'len')
      .jumpIf(r8, '<', ETHERNET_BYTES + IP.header, 'to_the_tun')
      .call('ktime_get_ns')
      .store(8, r10, flow.time, r0);
    reach(asm, ETHERNET_BYTES + IP.header, 'to_the_tun', 'header');
    findContainer(asm, ETHERNET_BYTES, key, flow);
    goStraight(asm, macs, 'to_the_tun');
  }
  goByRoute(asm, tunIfindex);
  return asm.assemble();
}
