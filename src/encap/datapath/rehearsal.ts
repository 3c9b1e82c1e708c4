/**
 * What a forwarder thread does before it serves: it forwards packets of its own making.
 *
 * Theory of operation. Code that has never run is slow: V8 compiles a function when it is first called, interprets it, and
 * makes machine code of it when it has been called often. Whoever pings through a fresh daemon would wait for that. So the
 * thread makes itself a host that does not exist, in a memory of its own (tables, counters, arena and slots, all small), and
 * serves that in the very loop in which it will serve the real one; the system calls are played (`StageCalls`): poll says that
 * there is something to read until enough has been forwarded, reads bring made-up packets, sends and writes go nowhere. What
 * V8 learns it learns of the functions, whoever's memory they work on. Nothing of it is seen elsewhere: the memory goes
 * when the rehearsal is over, and no descriptor is touched.
 *
 * It runs while the control thread sets up device and routes, for which this thread would wait anyway.
 */
import type { Family } from '../../base/address.js';
import { AF_INET, AF_INET6, EAGAIN, POLLIN, SOL_UDP, UDP_GRO } from '../../linux/constants.js';
import { type Syscalls, syscalls } from '../../linux/libc.js';
import { SharedMemory } from '../../linux/memory.js';
import {
  CMSG_DATA,
  CMSG_LENGTH,
  CMSG_LEVEL,
  CMSG_SPACE,
  CMSG_TYPE,
  IOVEC_BYTES,
  MMSGHDR_LENGTH,
  MSGHDR_CONTROL,
  MSGHDR_CONTROL_LENGTH,
  MSGHDR_FLAGS,
  MSGHDR_IOV,
  POLLFD_BYTES,
  POLLFD_REVENTS,
  putSockaddrIn,
  putSockaddrIn6,
} from '../../linux/structs.js';
import { VNET_HEADER_BYTES } from '../../tun/virtio.js';
import type { Direction } from '../forwarding/control-block.js';
import { ForwardingTable, type UnderlayFamilies } from '../forwarding/forwarding-table.js';
import { planLayout } from '../forwarding/layout.js';
import { type ForwarderContext, makeContext } from './context.js';
import type { ForwarderOptions } from './options.js';
import {
  NETWORK,
  NETWORK_V6,
  type PacketToSend,
  packetsToSend,
  type RunToReceive,
  runsToReceive,
  subnet,
  subnetV6,
} from './rehearsal-packets.js';
import { serve } from './serve.js';

/** What the forwarders will have to do with; what they will not is not rehearsed. */
export interface RehearsalPlan {
  readonly vnetHeader: boolean;
  /** Families that the overlay carries, and that there are sockets of; one of each at least. */
  readonly overlay: UnderlayFamilies;
  readonly underlay: UnderlayFamilies;
}

/** How often each forwarder has its turn. Fewer leave pings slower, more cost processor time and gain nothing. */
export const TURNS = 200;

const PORT = 8285;
/** Where host 2 is. */
const PEER = 0xc000_0202;
const PEER_V6 = (0x2001_0db8n << 96n) | 2n;
/** Descriptors that no process has: should one of them reach the kernel, it refuses it. */
const TUN = 0x7fff_0000;
const SOCKET = TUN + 1;
const SOCKET_V6 = TUN + 2;
const WAKE = TUN + 3;
const TWO_TO_32 = 4_294_967_296;

/**
 * Forwards made-up packets until the code that does it is warm. Leaves nothing behind.
 *
 * @returns what the forwarders counted
 */
export function rehearse(directions: readonly Direction[], plan: RehearsalPlan): ForwarderContext['counters'] {
  const networks = { ipv4: plan.overlay.ipv4 ? NETWORK : null, ipv6: plan.overlay.ipv6 ? NETWORK_V6 : null };
  const layout = planLayout(networks, { peers: 1, subnetNodes: 8, senderNodes: 8 });
  const memory = SharedMemory.create(layout.bytes);
  const families = ([4, 6] as const).filter((family) => (family === 4 ? plan.overlay.ipv4 : plan.overlay.ipv6));
  const calls = stageCalls(memory, families, plan.vnetHeader, () => context.control.requestStop());
  const context = makeContext(memory, calls, stageOptions(plan, layout));
  context.control.peersComplete = true;
  new ForwardingTable({
    ...{ memory, layout, control: context.control, networks, underlay: plan.underlay, port: PORT },
  }).replaceAll([
    {
      subnet: networks.ipv4 && subnet(2),
      subnetV6: networks.ipv6 && subnetV6(2),
      publicIp: plan.underlay.ipv4 ? PEER : 0,
      publicIpv6: plan.underlay.ipv6 ? PEER_V6 : null,
    },
  ]);
  serve(context, directions, 0, WAKE);
  touchCalls();
  return context.counters;
}

/** The first use of a call makes what it needs. No process has this descriptor, so the kernel does nothing. */
function touchCalls(): void {
  syscalls.poll(0, 0, 0);
  syscalls.read(TUN, 0, 0);
  syscalls.readv(TUN, 0, 0);
  syscalls.writev(TUN, 0, 0);
  syscalls.sendmsg(TUN, 0, 0);
  syscalls.recvmmsg(TUN, 0, 0, 0, 0);
  syscalls.errno();
}

function stageOptions({ vnetHeader, overlay, underlay }: RehearsalPlan, layout: ForwarderOptions['layout']) {
  return {
    layout,
    tun: TUN,
    socket: underlay.ipv4 ? SOCKET : -1,
    socketV6: underlay.ipv6 ? SOCKET_V6 : -1,
    vnetHeader,
    carriesIpv4: overlay.ipv4,
    network: NETWORK.address,
    networkMask: 0xffff_0000,
    subnet: subnet(1).address,
    subnetMask: 0xffff_ff00,
    ipv6: overlay.ipv6
      ? {
          network: NETWORK_V6,
          subnet: subnetV6(1),
          icmpSource: NETWORK_V6.address,
          overlayAddress: subnetV6(1).address,
        }
      : null,
    port: PORT,
    mtu: 1472,
    mayBeUnfinished: false,
    maxSegments: 128,
    receiveSlots: 64,
    mergeTcp: vnetHeader,
    mergeUdp: vnetHeader,
    checkSenders: true,
    icmpSource: NETWORK.address,
    overlayAddress: subnet(1).address,
    icmpPerSecond: 100,
    icmpBurst: 50,
  };
}

/**
 * The system calls of a host that does not exist. An object of the same form as the real ones, since V8 remembers the forms
 * that it has met.
 *
 * @param onEnd called when everybody has had enough turns
 */
function stageCalls(
  { u8, u16, u32, i32, base }: SharedMemory,
  families: readonly Family[],
  vnetHeader: boolean,
  onEnd: () => void,
): Syscalls {
  const outgoing: PacketToSend[] = families.flatMap((family) => packetsToSend(family, vnetHeader));
  const incoming: RunToReceive[] = families.flatMap(runsToReceive);
  let polls = 0;
  let reads = 0;
  let receives = 0;
  const pointer = (at: number) => u32[at >>> 2] + u32[(at >>> 2) + 1] * TWO_TO_32 - base;
  return {
    poll(fds, count) {
      if (polls++ === TURNS) onEnd();
      const at = fds - base;
      for (let i = 0; i < count; i++) {
        const pollfd = at + i * POLLFD_BYTES;
        const isRead = polls <= TURNS && i32[pollfd >>> 2] !== WAKE;
        u16[(pollfd + POLLFD_REVENTS) >>> 1] = isRead ? POLLIN : 0;
      }
      return count;
    },
    read: () => -1,
    readv(_fd, iov, count) {
      // every other one finds the device empty, as most turns of a quiet host do
      if (reads++ % 2 !== 0) return -1;
      const { vnet, packet } = outgoing[(reads >>> 1) % outgoing.length];
      const at = iov - base;
      u8.set(packet, pointer(at + (count - 1) * IOVEC_BYTES));
      if (count === 1) return packet.length;
      u8.set(vnet, pointer(at));
      return VNET_HEADER_BYTES + packet.length;
    },
    writev: () => 1,
    sendmsg: () => 1,
    recvmmsg(fd, messages) {
      const { bytes, size } = incoming[receives++ % incoming.length];
      const message = messages - base;
      if (fd === SOCKET) putSockaddrIn(u8, pointer(message), PEER, PORT, AF_INET);
      else putSockaddrIn6(u8, pointer(message), PEER_V6, PORT, AF_INET6);
      u8.set(bytes, pointer(pointer(message + MSGHDR_IOV)));
      u32[(message + MMSGHDR_LENGTH) >>> 2] = bytes.length;
      u32[(message + MSGHDR_FLAGS) >>> 2] = 0;
      u32[(message + MSGHDR_CONTROL_LENGTH) >>> 2] = size < bytes.length ? CMSG_SPACE : 0;
      const control = pointer(message + MSGHDR_CONTROL);
      u32[(control + CMSG_LENGTH) >>> 2] = CMSG_DATA + 4;
      u32[(control + CMSG_LEVEL) >>> 2] = SOL_UDP;
      u32[(control + CMSG_TYPE) >>> 2] = UDP_GRO;
      u32[(control + CMSG_DATA) >>> 2] = size;
      return 1;
    },
    errno: () => EAGAIN,
  };
}
