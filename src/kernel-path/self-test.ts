/**
 * Does this kernel do with a packet what the programs are written for? Asked of the kernel itself, with test runs on packets
 * of our own, before any program is attached: helpers differ in details that no version number tells for sure.
 */
import { TweedError } from '../base/errors.js';
import { contains, type Prefix, prefixSize } from '../base/ipv4.js';
import { BPF_PROG_TYPE_SCHED_CLS } from '../linux/bpf.js';
import { TC_ACT_REDIRECT } from './assembler/symbols.js';
import type { Bpf } from './bpf.js';
import { ETHERNET_BYTES, type Maps, OUTER_BYTES, OUTER_IPV4 } from './maps.js';
import { encapProgram } from './programs/encap.js';
import type { ConntrackPlaces, ProgramSettings } from './programs/settings.js';
import type { KernelTable } from './table.js';

export class SelfTestError extends TweedError {
  constructor(what: string) {
    super('KERNEL_PATH_SELF_TEST', `${what} on this kernel; leave the kernel path off, or use another kernel`);
  }
}

const PAYLOAD = 64;
const TTL = 17;

/**
 * Sends a packet to a made-up peer and takes one from it. The table is empty before and after.
 *
 * @param decap descriptor of the loaded program
 * @throws SelfTestError, BpfError
 */
export function selfTest(
  bpf: Bpf,
  maps: Maps,
  table: KernelTable,
  decap: number,
  settings: ProgramSettings,
  places: ConntrackPlaces | null,
): void {
  const { network, subnet } = settings;
  const other = neighbourOf(subnet, network);
  if (other === null) return; // an overlay of one host has nothing to carry
  const peer = (settings.address ^ 1) >>> 0;
  const ours = (subnet.address + 1) >>> 0;
  const theirs = (other + 1) >>> 0;
  const refused = table.replaceAll([
    { subnet: { address: other, length: subnet.length }, publicIp: peer, pathMtu: 1500 },
  ]);
  if (refused[0] !== undefined) throw new SelfTestError(refused[0].reason);
  try {
    // on a device with Ethernet, for a test run knows no other; the rest of the program is the same
    const program = encapProgram(settings, places, ETHERNET_BYTES);
    const encap = bpf.load(program.name, BPF_PROG_TYPE_SCHED_CLS, program.bytes(maps));
    try {
      const out = bpf.testRun(encap, inEthernet(innerPacket(ours, theirs, TTL)));
      const wanted = inEthernet(datagram(settings, settings.address, peer, innerPacket(ours, theirs, TTL - 1)));
      expect('encapsulation', out.result, out.data, wanted);
    } finally {
      bpf.close(encap);
    }
    const arrived = datagram(settings, peer, settings.address, innerPacket(theirs, ours, TTL));
    const { result, data } = bpf.testRun(decap, inEthernet(arrived));
    expect('decapsulation', result, data, inEthernet(innerPacket(theirs, ours, TTL - 1)));
  } finally {
    table.replaceAll([]);
    table.suspend();
    table.resetCounters();
    table.forgetFlows();
  }
}

function expect(what: string, result: number, data: Uint8Array, wanted: Uint8Array): void {
  if (result !== TC_ACT_REDIRECT) throw new SelfTestError(`${what} ends with ${result | 0}`);
  // behind the Ethernet addresses, which are nobody's yet
  const same = data.length === wanted.length && data.every((byte, i) => i < 12 || byte === wanted[i]);
  if (!same) throw new SelfTestError(`${what} makes other bytes than it should`);
}

/** Another subnet of the same length in the network. */
function neighbourOf(subnet: Prefix, network: Prefix): number | null {
  const size = prefixSize(subnet.length);
  for (const address of [subnet.address + size, subnet.address - size]) {
    if (address >= 0 && address < 2 ** 32 && contains(network, address)) return address;
  }
  return null;
}

function inEthernet(packet: Uint8Array): Uint8Array {
  const frame = new Uint8Array(ETHERNET_BYTES + packet.length);
  frame[12] = 0x08;
  frame.set(packet, ETHERNET_BYTES);
  return frame;
}

function innerPacket(source: number, destination: number, ttl: number): Uint8Array {
  const bytes = ipv4(source, destination, ttl, OUTER_IPV4 + PAYLOAD);
  for (let i = OUTER_IPV4; i < bytes.length; i++) bytes[i] = i * 7;
  return bytes;
}

function datagram({ port }: ProgramSettings, from: number, to: number, inner: Uint8Array): Uint8Array {
  const bytes = ipv4(from, to, 64, OUTER_BYTES + inner.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(OUTER_IPV4, port);
  view.setUint16(OUTER_IPV4 + 2, port);
  view.setUint16(OUTER_IPV4 + 4, OUTER_BYTES - OUTER_IPV4 + inner.length);
  bytes.set(inner, OUTER_BYTES);
  return bytes;
}

/** An IPv4 packet of UDP with DF, its checksum right, zeros behind the header. */
function ipv4(source: number, destination: number, ttl: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x45;
  view.setUint16(2, length);
  view.setUint16(6, 0x4000);
  bytes[8] = ttl;
  bytes[9] = 17;
  view.setUint32(12, source);
  view.setUint32(16, destination);
  let sum = 0;
  for (let at = 0; at < OUTER_IPV4; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(10, sum ^ 0xffff);
  return bytes;
}
