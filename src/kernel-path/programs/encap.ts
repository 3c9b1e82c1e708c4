/**
 * The program on flannel0's way out: puts a packet into a datagram of its peer and hands it to the underlay.
 *
 * Theory of operation. It takes what user space would send without a word and leaves everything else to it, by letting the
 * packet go on to other programs and to the TUN: no route, TTL run out, longer than the path allows, options, fragments, IPv6. There is
 * nothing that it drops, except where the kernel fails in the middle of the work. A super-packet stays one: the kernel's
 * segmentation knows UDP tunnels, and cuts it where the device cannot.
 *
 * The outer UDP checksum is 0, "not computed" (RFC 768), for the inner packet has one of its own, and summing is what
 * the program cannot do for a super-packet.
 */
import { netmask } from '../../base/ipv4.js';
import { Assembler, type Program, r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10 } from '../assembler/assembler.js';
import {
  ADJ_ROOM_ENCAP_L3_IPV4,
  ADJ_ROOM_ENCAP_L4_UDP,
  ADJ_ROOM_FIXED_GSO,
  ADJ_ROOM_MAC,
  SK_BUFF,
  TC_ACT_SHOT,
  TC_ACT_UNSPEC,
} from '../assembler/symbols.js';
import {
  Drop,
  ETHERNET_BYTES,
  OUTER_BYTES,
  OUTER_IPV4,
  PEER_CHECKSUM_BASE,
  PEER_MAX_PACKET,
  PEER_OUTER,
  PeerCount,
  Total,
} from '../maps.js';
import {
  count,
  decrementTtl,
  dropLabel,
  dropPlaces,
  FRAGMENT_BITS,
  findPeer,
  fold,
  IP,
  lookUp,
  measure,
  reach,
  swap16,
  swap32,
  takeSlots,
  VERSION_4_WITHOUT_OPTIONS,
} from './blocks.js';
import { noteFlow, takeFlowSlots } from './flows.js';
import type { ConntrackPlaces, ProgramSettings } from './settings.js';

/** The longest packet whose datagram's length fits 16 bits. */
const MAX_PACKET = 65_535 - OUTER_BYTES;
const ETH_P_IP = 0x0800;
/** Where the outer UDP header has its length. */
const UDP_LENGTH = OUTER_IPV4 + 4;

/**
 * @param places in mode `direct`: flows whose answers may go straight to their container are noted; null: none is
 * @param linkHeader 0 on a device without link header, as a TUN is; ETHERNET_BYTES on one with Ethernet
 */
export function encapProgram(
  settings: ProgramSettings,
  places: ConntrackPlaces | null,
  linkHeader: 0 | typeof ETHERNET_BYTES = 0,
): Program {
  const asm = new Assembler('tweed_encap', SK_BUFF);
  const slots = takeSlots(asm);
  // the EtherType and the outer headers as they are stored, so that the headers begin at a multiple of eight
  const frame = asm.slot(2 + OUTER_BYTES + 8) + 8;
  const etherType = frame - 2;
  const ip = linkHeader;
  const { network } = settings;

  asm
    .remark('an IPv4 packet, as long as it says, without options, no fragment')
    .alu(r6, '=', r1)
    .field(r1, r6, 'protocol')
    .jumpIf(r1, '!=', swap16(ETH_P_IP), 'leave')
    .field(r8, r6, 'len')
    .jumpIf(r8, '<', ip + IP.header, 'leave')
    .alu(r8, '-=', ip)
    .jumpIf(r8, '>', MAX_PACKET, 'leave');
  reach(asm, ip + IP.header, 'leave', 'header');
  asm
    .load(1, r1, r9, ip + IP.versionAndLength)
    .jumpIf(r1, '!=', VERSION_4_WITHOUT_OPTIONS, 'leave')
    .load(2, r1, r9, ip + IP.totalLength)
    .networkOrder(r1, 16)
    .jumpIf(r1, '!=', r8, 'leave')
    .load(2, r1, r9, ip + IP.fragment)
    .jumpIf(r1, '&', FRAGMENT_BITS, 'leave')
    .load(1, r1, r9, ip + IP.ttl)
    .jumpIf(r1, '<=', 1, 'leave')

    .remark('to a peer, whose path is wide enough')
    .load(4, r1, r9, ip + IP.destination)
    .alu32(r1, '^=', swap32(network.address))
    .alu32(r1, '&=', swap32(netmask(network.length)))
    .jumpIf(r1, '!=', 0, 'leave');
  findPeer(asm, ip + IP.destination, slots.key, 'leave');
  measure(asm, ip, slots, 'leave');
  asm.load(8, r1, r10, slots.longest).load(4, r2, r7, PEER_MAX_PACKET).jumpIf(r1, '>', r2, 'leave');

  if (places !== null) {
    noteFlow(asm, ip, takeFlowSlots(asm), settings.subnet, places);
    reach(asm, ip + IP.header, 'leave', 'again');
  }
  asm.remark('from here on it is ours');
  decrementTtl(asm, ip, 'patched');
  if (linkHeader === 0) {
    asm
      .remark('room for an Ethernet header, which redirect_neigh fills')
      .alu(r1, '=', r6)
      .alu(r2, '=', ETHERNET_BYTES)
      .alu(r3, '=', 0)
      .call('skb_change_head')
      .jumpIf(r0, '!=', 0, dropLabel('tx_send_error'));
  }
  asm
    .remark('room for the outer headers behind it; a super-packet keeps the size of its segments')
    .alu(r1, '=', r6)
    .alu(r2, '=', OUTER_BYTES)
    .alu(r3, '=', ADJ_ROOM_MAC)
    .alu(r4, '=', ADJ_ROOM_FIXED_GSO | ADJ_ROOM_ENCAP_L3_IPV4 | ADJ_ROOM_ENCAP_L4_UDP)
    .call('skb_adjust_room')
    .jumpIf(r0, '!=', 0, dropLabel('tx_send_error'))
    .remark('the outer headers: the peer has them ready but for lengths and checksum')
    .store(2, r10, etherType, swap16(ETH_P_IP));
  for (let at = 0; at < OUTER_BYTES; at += 4) asm.load(4, r1, r7, PEER_OUTER + at).store(4, r10, frame + at, r1);
  asm
    .alu(r1, '=', r8)
    .alu(r1, '+=', OUTER_BYTES)
    .networkOrder(r1, 16)
    .store(2, r10, frame + IP.totalLength, r1)
    .load(4, r2, r7, PEER_CHECKSUM_BASE)
    .alu(r1, '+=', r2);
  fold(asm, 2);
  asm
    .alu(r1, '^=', 0xffff)
    .store(2, r10, frame + IP.checksum, r1)
    .alu(r1, '=', r8)
    .alu(r1, '+=', OUTER_BYTES - OUTER_IPV4)
    .networkOrder(r1, 16)
    .store(2, r10, frame + UDP_LENGTH, r1)
    .alu(r1, '=', r6)
    .alu(r2, '=', ETHERNET_BYTES - 2)
    .alu(r3, '=', r10)
    .alu(r3, '+=', etherType)
    .alu(r4, '=', 2 + OUTER_BYTES)
    .alu(r5, '=', 0)
    .call('skb_store_bytes')
    .jumpIf(r0, '!=', 0, dropLabel('tx_send_error'));

  count(
    asm,
    slots,
    [
      [Total.tx_packets, slots.packets],
      [Total.tx_bytes, slots.bytes],
    ],
    [
      [PeerCount.txPackets, slots.packets],
      [PeerCount.txBytes, slots.bytes],
    ],
    () => {},
  );
  asm
    .remark('the neighbour on the way there is found by the routes of the host, like any other')
    .alu(r1, '=', settings.underlayIfindex)
    .alu(r2, '=', 0)
    .alu(r3, '=', 0)
    .alu(r4, '=', 0)
    .call('redirect_neigh')
    .exit()

    .label('leave')
    .alu(r0, '=', TC_ACT_UNSPEC)
    .exit();

  dropPlaces(asm, ['tx_send_error']);
  asm.store(4, r10, slots.key, 0);
  lookUp(asm, 'counters', slots.key);
  asm
    .jumpIf(r0, '==', 0, 'drop_silently')
    .load(8, r2, r10, slots.packets)
    .load(8, r1, r0, Drop.tx_send_error)
    .alu(r1, '+=', r2)
    .store(8, r0, Drop.tx_send_error, r1)
    .label('drop_silently')
    .alu(r0, '=', TC_ACT_SHOT)
    .exit();
  return asm.assemble();
}
