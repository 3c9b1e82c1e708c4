/**
 * The program on the underlay's way in: takes the packet out of a peer's datagram and hands it on.
 *
 * Theory of operation. Three things can become of what arrives:
 *
 * - *left alone*: it is no datagram for our port, or not an ordinary one. It goes on to the kernel's UDP and from there to
 *   user space, as if this program were not there. That is so for whatever the program cannot judge: a UDP checksum that the
 *   device has not verified, datagrams that GRO has merged, fragments, options, sources outside the overlay, a TTL that
 *   runs out here (which wants an answer).
 * - *dropped*, counted under the reason that user space counts it under. Only what user space would drop too, and only
 *   while the maps hold every peer and are kept so: as long as one is missing, and while no daemon runs, user space judges.
 * - *taken*: TTL taken down, outer headers off, and on its way. Single segments of TCP go by the device where the kernel merges
 *   them (merge-pair.ts), where there is one, and merged.ts hands them on.
 *
 * The rules and their order are those of encap/datapath/rx.ts.
 */
import { netmask } from '../../base/ipv4.js';
import { Assembler, type Program, r0, r1, r2, r3, r4, r6, r7, r8, r9, r10 } from '../assembler/assembler.js';
import {
  ADJ_ROOM_FIXED_GSO,
  ADJ_ROOM_MAC,
  CSUM_LEVEL_QUERY,
  PACKET_HOST,
  SK_BUFF,
  TC_ACT_SHOT,
  TC_ACT_UNSPEC,
} from '../assembler/symbols.js';
import {
  Drop,
  ETHERNET_BYTES,
  OUTER_BYTES,
  OUTER_IPV4,
  PEER_ADDRESS,
  PeerCount,
  STATE_COMPLETE,
  Total,
} from '../maps.js';
import {
  checkHeaderSum,
  chooseMerging,
  count,
  decrementTtl,
  dropLabel,
  dropPlaces,
  FRAGMENT_BITS,
  findPeer,
  IP,
  lookUp,
  measure,
  PROTOCOL_UDP,
  reach,
  swap16,
  swap32,
  takeSlots,
  VERSION_4_WITHOUT_OPTIONS,
  whileTended,
} from './blocks.js';
import { takeFlowSlots } from './flows.js';
import type { InboundMode, ProgramSettings } from './settings.js';
import { findContainer, goByRoute, goStraight, takeMacSlot } from './straight.js';

const ETH_P_IP = 0x0800;
const OUTER = ETHERNET_BYTES;
const UDP = OUTER + OUTER_IPV4;
const UDP_SOURCE_PORT = UDP;
const UDP_DESTINATION_PORT = UDP + 2;
const UDP_LENGTH = UDP + 4;
const UDP_CHECKSUM = UDP + 6;
const INNER = OUTER + OUTER_BYTES;

/** What it drops, besides what the kernel fails to do. */
const REASONS: readonly (keyof typeof Drop)[] = [
  'rx_unknown_sender',
  'rx_bad_length',
  'rx_bad_header_checksum',
  'rx_ttl_zero',
  'rx_spoofed_source',
  'rx_foreign_destination',
];

export function decapProgram(settings: ProgramSettings, mode: InboundMode): Program {
  const asm = new Assembler('tweed_decap', SK_BUFF);
  const slots = takeSlots(asm);
  const macs = takeMacSlot(asm);
  const flow = takeFlowSlots(asm);
  const into = asm.slot(8);
  const { network, subnet } = settings;

  asm
    .remark('a datagram for our address and port, in one piece, without options, checksums verified: else not ours')
    .alu(r6, '=', r1)
    .field(r1, r6, 'protocol')
    .jumpIf(r1, '!=', swap16(ETH_P_IP), 'leave')
    .field(r1, r6, 'pkt_type')
    .jumpIf(r1, '!=', PACKET_HOST, 'leave')
    .field(r1, r6, 'vlan_present')
    .jumpIf(r1, '!=', 0, 'leave')
    .field(r8, r6, 'len')
    .jumpIf(r8, '<', INNER + IP.header, 'leave')
    .alu(r8, '-=', OUTER);
  reach(asm, INNER + IP.header, 'leave', 'headers_in_reach');
  asm
    .load(1, r1, r9, OUTER + IP.versionAndLength)
    .jumpIf(r1, '!=', VERSION_4_WITHOUT_OPTIONS, 'leave')
    .load(1, r1, r9, OUTER + IP.protocol)
    .jumpIf(r1, '!=', PROTOCOL_UDP, 'leave')
    .load(2, r1, r9, UDP_DESTINATION_PORT)
    .jumpIf(r1, '!=', swap16(settings.port), 'leave')
    .load(4, r1, r9, OUTER + IP.destination)
    .jumpIf32(r1, '!=', swap32(settings.address), 'leave')
    .load(2, r1, r9, OUTER + IP.fragment)
    .jumpIf(r1, '&', FRAGMENT_BITS, 'leave')
    .load(2, r1, r9, OUTER + IP.totalLength)
    .networkOrder(r1, 16)
    .jumpIf(r1, '!=', r8, 'leave')
    .alu(r8, '-=', OUTER_IPV4)
    .load(2, r1, r9, UDP_LENGTH)
    .networkOrder(r1, 16)
    .jumpIf(r1, '!=', r8, 'leave')
    .alu(r8, '-=', OUTER_BYTES - OUTER_IPV4);
  checkHeaderSum(asm, OUTER, 'leave');
  asm
    .load(2, r1, r9, UDP_CHECKSUM)
    .jumpIf(r1, '==', 0, 'datagram_verified')
    .remark(
      'with a checksum it is no super-packet of ours but datagrams that were sent or received as one: for user space',
    )
    .field(r1, r6, 'gso_size')
    .jumpIf(r1, '!=', 0, 'leave')
    .alu(r1, '=', r6)
    .alu(r2, '=', CSUM_LEVEL_QUERY)
    .call('csum_level')
    .jumpIf(r0, 's<', 0, 'leave')
    .label('datagram_verified')

    .remark('from a peer')
    .load(2, r1, r9, UDP_SOURCE_PORT)
    .jumpIf(r1, '!=', swap16(settings.port), dropLabel('rx_unknown_sender'))

    .remark('a sane inner packet')
    .load(1, r1, r9, INNER + IP.versionAndLength)
    .jumpIf(r1, '==', VERSION_4_WITHOUT_OPTIONS, 'without_options')
    .remark('options, IPv6 and what is neither: user space has rules for them')
    .jump('leave')
    .label('without_options')
    .load(2, r1, r9, INNER + IP.totalLength)
    .networkOrder(r1, 16)
    .jumpIf(r1, '!=', r8, dropLabel('rx_bad_length'))
    .load(2, r1, r9, INNER + IP.fragment)
    .jumpIf(r1, '&', FRAGMENT_BITS, 'leave');
  checkHeaderSum(asm, INNER, dropLabel('rx_bad_header_checksum'));
  asm
    .load(1, r1, r9, INNER + IP.ttl)
    .jumpIf(r1, '==', 0, dropLabel('rx_ttl_zero'))

    .remark('an inner source that belongs to the sender')
    .load(4, r1, r9, INNER + IP.source)
    .alu32(r1, '^=', swap32(network.address))
    .alu32(r1, '&=', swap32(netmask(network.length)))
    .jumpIf(r1, '!=', 0, 'leave');
  findPeer(asm, INNER + IP.source, slots.key, dropLabel('rx_spoofed_source'));
  asm
    .load(4, r1, r7, PEER_ADDRESS)
    .load(4, r2, r9, OUTER + IP.source)
    .jumpIf(r1, '!=', r2, dropLabel('rx_spoofed_source'))

    .remark('a destination that is ours')
    .load(4, r1, r9, INNER + IP.destination)
    .alu32(r1, '^=', swap32(subnet.address))
    .alu32(r1, '&=', swap32(netmask(subnet.length)))
    .jumpIf(r1, '!=', 0, dropLabel('rx_foreign_destination'))
    .load(1, r1, r9, INNER + IP.ttl)
    .jumpIf(r1, '==', 1, 'leave');
  measure(asm, INNER, slots, 'leave');

  asm.remark('from here on it is ours').store(8, r10, flow.time, 0).store(8, r10, into, 0);
  decrementTtl(asm, INNER, 'patched');
  count(
    asm,
    slots,
    [
      [Total.rx_datagrams, slots.packets],
      [Total.rx_packets, slots.packets],
      [Total.rx_bytes, slots.bytes],
    ],
    [
      [PeerCount.rxPackets, slots.packets],
      [PeerCount.rxBytes, slots.bytes],
    ],
    () => {
      asm.alu(r7, '=', r0).call('ktime_get_ns').store(8, r7, PeerCount.lastReceived, r0).store(8, r10, flow.time, r0);
      chooseMerging(asm, INNER, slots.key, flow.time, into);
    },
  );
  if (mode === 'direct') {
    asm.alu(r7, '=', 0).load(8, r1, r10, into).jumpIf(r1, '!=', 0, 'by_route');
    findContainer(asm, INNER, slots.key, flow);
  }
  asm
    .remark('the outer headers off; a super-packet keeps the size of its segments')
    .alu(r1, '=', r6)
    .alu(r2, '=', -OUTER_BYTES)
    .alu(r3, '=', ADJ_ROOM_MAC)
    .alu(r4, '=', ADJ_ROOM_FIXED_GSO)
    .call('skb_adjust_room')
    .jumpIf(r0, '!=', 0, dropLabel('rx_tun_write_error'))
    .remark('what spreads flows over processors shall not take all flows of a peer for one')
    .alu(r1, '=', r6)
    .call('set_hash_invalid')
    .load(8, r1, r10, into)
    .jumpIf(r1, '==', 0, 'as_it_is')
    .alu(r2, '=', 0)
    .call('redirect')
    .exit()
    .label('as_it_is');
  if (mode === 'direct') goStraight(asm, macs, dropLabel('rx_tun_write_error'));
  goByRoute(asm, settings.tunIfindex);
  asm.label('leave').alu(r0, '=', TC_ACT_UNSPEC).exit();

  dropPlaces(asm, REASONS);
  asm
    .label('drop')
    .remark('nobody knows how many datagrams a merged one was: user space counts them')
    .field(r1, r6, 'gso_size')
    .jumpIf(r1, '!=', 0, 'leave')
    .remark('a stranger is one whatever else is wrong; who has got through is the peer that its packet names')
    .load(4, r1, r9, OUTER + IP.source)
    .store(4, r10, slots.key, r1);
  lookUp(asm, 'senders', slots.key);
  asm
    .jumpIf(r0, '!=', 0, 'no_stranger')
    .alu(r7, '=', Drop.rx_unknown_sender)
    .label('no_stranger')
    .call('ktime_get_ns')
    .store(8, r10, flow.time, r0);
  whileTended(asm, slots.key, flow.time, 'leave');
  asm
    .load(4, r1, r0, STATE_COMPLETE)
    .jumpIf(r1, '==', 0, 'leave')
    .jump('count_drop')
    .remark('the packet is half made over already, so user space cannot have it')
    .label(dropLabel('rx_tun_write_error'))
    .alu(r7, '=', Drop.rx_tun_write_error)
    .label('count_drop')
    .store(4, r10, slots.key, 0);
  lookUp(asm, 'counters', slots.key);
  asm
    .jumpIf(r0, '==', 0, 'drop_silently')
    .load(8, r1, r0, Total.rx_datagrams)
    .alu(r1, '+=', 1)
    .store(8, r0, Total.rx_datagrams, r1)
    .alu(r0, '+=', r7)
    .load(8, r1, r0, 0)
    .alu(r1, '+=', 1)
    .store(8, r0, 0, r1)
    .label('drop_silently')
    .alu(r0, '=', TC_ACT_SHOT)
    .exit();
  return asm.assemble();
}
