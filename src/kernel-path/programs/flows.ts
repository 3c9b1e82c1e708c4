/**
 * Which packets may go straight to a container.
 *
 * Theory of operation. What goes straight passes none of the host's rules, and no address translation. So nothing does that the
 * host has not seen first: a flow goes straight from the moment at which its container answers, or is answered, and connection
 * tracking says that both ways have been through the host and that nobody has translated an address on either (the
 * answers to a service address, to a published port, or to what was masqueraded must be translated back). The
 * program on the way out looks at that for every packet, notes the flow, or strikes it out.
 *
 * - What begins or ends a connection (SYN, FIN, RST) always goes by the host's routes, so rules decide about each new one.
 * - A flow whose container has been silent for FLOW_LIFETIME_NS goes by route again, so that connection tracking, which knows it
 *   by the container's packets alone, does not forget it.
 * - What a packet on its way out has no connection for is either invalid, which says nothing about the flow, or nobody tracks
 *   here, and who does not track does not translate. The beginning of a connection is never invalid, nor is UDP.
 */
import { netmask, type Prefix } from '../../base/ipv4.js';
import { r0, r1, r2, r3, r4, r6, r9, r10 } from '../assembler/assembler.js';
import {
  FLOW_CONTAINER,
  FLOW_CONTAINER_PORT,
  FLOW_KEY_BYTES,
  FLOW_PROTOCOL,
  FLOW_REMOTE,
  FLOW_REMOTE_PORT,
} from '../maps.js';
import { IP, lookUp, type PacketAssembler, PROTOCOL_TCP, PROTOCOL_UDP, reach, swap32 } from './blocks.js';
import type { ConntrackPlaces } from './settings.js';

/** Well below the 30 s after which connection tracking forgets UDP and echoes. */
export const FLOW_LIFETIME_NS = 10_000_000_000n;

const PROTOCOL_ICMP = 1;
/** Behind the inner IPv4 header. */
const SOURCE_PORT = IP.header;
const DESTINATION_PORT = IP.header + 2;
const TCP_FLAGS = IP.header + 13;
const ICMP_TYPE = IP.header;
const ICMP_ID = IP.header + 4;
const ECHO_REPLY = 0;
const ECHO_REQUEST = 8;
const FIN = 1;
const SYN = 2;
const RST = 4;

/** Bits of a connection's status (linux/netfilter/nf_conntrack_common.h). */
const SEEN_REPLY = 1 << 1;
/** Translated at either end, shifted sequence numbers, or a helper that reads along. */
const TOUCHED = (1 << 4) | (1 << 5) | (1 << 6) | (1 << 13);

export interface FlowSlots {
  readonly key: number;
  /** Of the packet, nanoseconds of the monotonic clock. */
  readonly time: number;
  readonly status: number;
}

export function takeFlowSlots(asm: PacketAssembler): FlowSlots {
  return { key: asm.slot(FLOW_KEY_BYTES), time: asm.slot(8), status: asm.slot(8) };
}

/**
 * Writes the flow's key to the stack. `inbound`: the packet comes from the remote end.
 *
 * @param offset of the inner IPv4 header, whose packet has the length in r8 and r9 as its address
 * @param otherwise for what has no flow
 */
function writeKey(asm: PacketAssembler, offset: number, key: number, inbound: boolean, otherwise: string): void {
  const [remote, container] = inbound ? [IP.source, IP.destination] : [IP.destination, IP.source];
  const [remotePort, containerPort] = inbound ? [SOURCE_PORT, DESTINATION_PORT] : [DESTINATION_PORT, SOURCE_PORT];
  asm.field(r1, r6, 'len').jumpIf(r1, '<', offset + IP.header + 8, otherwise);
  reach(asm, offset + IP.header + 8, otherwise, 'flow_in_reach');
  asm
    .load(4, r1, r9, offset + remote)
    .store(4, r10, key + FLOW_REMOTE, r1)
    .load(4, r1, r9, offset + container)
    .store(4, r10, key + FLOW_CONTAINER, r1)
    .load(1, r3, r9, offset + IP.protocol)
    .store(4, r10, key + FLOW_PROTOCOL, r3)
    .jumpIf(r3, '==', PROTOCOL_ICMP, 'echo')
    .jumpIf(r3, '==', PROTOCOL_TCP, 'ports')
    .jumpIf(r3, '!=', PROTOCOL_UDP, otherwise)
    .label('ports')
    .load(2, r1, r9, offset + remotePort)
    .store(2, r10, key + FLOW_REMOTE_PORT, r1)
    .load(2, r1, r9, offset + containerPort)
    .store(2, r10, key + FLOW_CONTAINER_PORT, r1)
    .jump('keyed')
    .label('echo')
    .load(1, r1, r9, offset + ICMP_TYPE)
    .jumpIf(r1, '==', ECHO_REPLY, 'identified')
    .jumpIf(r1, '!=', ECHO_REQUEST, otherwise)
    .label('identified')
    .load(2, r1, r9, offset + ICMP_ID)
    .store(2, r10, key + FLOW_REMOTE_PORT, r1)
    .store(2, r10, key + FLOW_CONTAINER_PORT, 0)
    .label('keyed');
}

/** Loads the TCP flags into r1; other protocols go to `others`. */
function tcpFlags(asm: PacketAssembler, offset: number, key: number, others: string, otherwise: string): void {
  asm
    .load(4, r3, r10, key + FLOW_PROTOCOL)
    .jumpIf(r3, '!=', PROTOCOL_TCP, others)
    .field(r1, r6, 'len')
    .jumpIf(r1, '<', offset + IP.header + 20, otherwise);
  reach(asm, offset + IP.header + 20, otherwise, 'flags_in_reach');
  asm.load(1, r1, r9, offset + TCP_FLAGS);
}

/**
 * On the way out: notes the packet's flow, strikes it out, or refreshes it. Goes on behind it in any case.
 *
 * @param subnet this host's: others than its containers are not noted
 */
export function noteFlow(
  asm: PacketAssembler,
  offset: number,
  slots: FlowSlots,
  subnet: Prefix,
  places: ConntrackPlaces,
): void {
  asm
    .remark('may answers to this go straight to the container? See programs/flows.ts')
    .load(4, r1, r9, offset + IP.source)
    .alu32(r1, '^=', swap32(subnet.address))
    .alu32(r1, '&=', swap32(netmask(subnet.length)))
    .jumpIf(r1, '!=', 0, 'noted');
  writeKey(asm, offset, slots.key, false, 'noted');
  asm
    .call('ktime_get_ns')
    .store(8, r10, slots.time, r0)
    .alu(r1, '=', r6)
    .callKernel(places.castToKernel)
    .load(8, r3, r0, places.connectionInPacket)
    .remark('the lowest bits tell the direction')
    .alu(r3, '&=', -8)
    .jumpIf(r3, '==', 0, 'no_connection')
    .alu(r3, '+=', places.statusInConnection)
    .store(8, r10, slots.status, 0)
    .alu(r1, '=', r10)
    .alu(r1, '+=', slots.status)
    .alu(r2, '=', 8)
    .call('probe_read_kernel')
    .jumpIf(r0, '!=', 0, 'noted')
    .load(8, r1, r10, slots.status)
    .jumpIf(r1, '&', TOUCHED, 'strike_out')
    .jumpIf(r1, '&', SEEN_REPLY, 'note');
  asm.label('strike_out');
  lookUp(asm, 'flows', slots.key);
  asm.jumpIf(r0, '==', 0, 'noted').map(r1, 'flows').alu(r2, '=', r10).alu(r2, '+=', slots.key).call('map_delete_elem');
  asm.jump('noted').label('no_connection');
  tcpFlags(asm, offset, slots.key, 'note', 'noted');
  asm.jumpIf(r1, '&', SYN, 'note').remark('invalid, or not tracked: known flows stay known');
  lookUp(asm, 'flows', slots.key);
  asm.jumpIf(r0, '!=', 0, 'refresh').jump('noted').label('note');
  lookUp(asm, 'flows', slots.key);
  asm
    .jumpIf(r0, '==', 0, 'new_flow')
    .label('refresh')
    .load(8, r1, r10, slots.time)
    .store(8, r0, 0, r1)
    .jump('noted')
    .label('new_flow')
    .map(r1, 'flows')
    .alu(r2, '=', r10)
    .alu(r2, '+=', slots.key)
    .alu(r3, '=', r10)
    .alu(r3, '+=', slots.time)
    .alu(r4, '=', 0)
    .call('map_update_elem')
    .label('noted');
}

/** On the way in: goes on behind it when the packet may go straight to its container, of which r9 has been found in reach. */
export function checkFlow(asm: PacketAssembler, offset: number, slots: FlowSlots, otherwise: string): void {
  asm.remark('of a flow that the host has seen and nobody translates: see programs/flows.ts');
  writeKey(asm, offset, slots.key, true, otherwise);
  tcpFlags(asm, offset, slots.key, 'no_milestone', otherwise);
  asm.jumpIf(r1, '&', FIN | SYN | RST, otherwise).label('no_milestone');
  lookUp(asm, 'flows', slots.key);
  asm
    .jumpIf(r0, '==', 0, otherwise)
    .load(8, r1, r0, 0)
    .load(8, r2, r10, slots.time)
    .alu(r2, '-=', r1)
    .constant64(r3, FLOW_LIFETIME_NS)
    .remark('another processor may be a little ahead, hence with a sign')
    .jumpIf(r2, 's>', r3, otherwise);
}
