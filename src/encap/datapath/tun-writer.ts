/**
 * Writes received packets to the TUN, neighbours merged.
 *
 * Packets stay where they were received until they are written: their bytes are the caller's, and have to hold until `flush`.
 * Everything goes out in the order in which it came.
 */
import { EBADFD, EINVAL, EIO } from '../../linux/constants.js';
import type { RegionAllocator } from '../../linux/memory.js';
import { IOVEC_BYTES, IOVEC_LENGTH } from '../../linux/structs.js';
import { VNET_HEADER_BYTES } from '../../tun/virtio.js';
import { Rx, RxDrop } from '../forwarding/counters.js';
import type { Sum } from '../wire/checksum.js';
import { Merger } from '../wire/merge.js';
import { MAX_ITEMS } from '../wire/merge-items.js';
import { completeChecksum, noteUnfinished } from '../wire/unfinished.js';
import type { ForwarderContext } from './context.js';
import { Refusals } from './refusals.js';

export class TunWriter {
  readonly #memory: ForwarderContext['memory'];
  readonly #sys: ForwarderContext['sys'];
  readonly #options: ForwarderContext['options'];
  readonly #counters: ForwarderContext['counters']['rx'];
  readonly #merger: Merger;
  readonly #mergingTcp: Refusals;
  readonly #mergingUdp: Refusals;
  /** Addresses of the items' iovecs. The null keeps them boxed, so that passing one to a call allocates nothing. */
  readonly #itemAddresses: readonly (number | null)[];
  readonly #skip: number;
  readonly #singleIov: number;
  readonly #singleAddress: number;
  readonly #zeroVnet: number;
  /** The virtio-net header of an unfinished packet. */
  readonly #vnet: number;
  readonly #sum: Sum;
  #fatal = 0;

  constructor(context: ForwarderContext, regions: RegionAllocator) {
    const { memory, sum, control, options } = context;
    this.#memory = memory;
    this.#sys = context.sys;
    this.#options = options;
    this.#counters = context.counters.rx;
    this.#sum = sum;
    this.#skip = options.vnetHeader ? 0 : 1;
    this.#merger = new Merger(memory, regions, sum, { tcp: options.mergeTcp, udp: options.mergeUdp });
    this.#mergingTcp = new Refusals(control, 'merge_tcp');
    this.#mergingUdp = new Refusals(control, 'merge_udp');
    const addresses: (number | null)[] = [];
    for (let item = 0; item < MAX_ITEMS; item++) {
      addresses.push(memory.base + this.#merger.items.iov(item) + this.#skip * IOVEC_BYTES);
    }
    this.#itemAddresses = [...addresses, null];
    this.#zeroVnet = regions.take(VNET_HEADER_BYTES);
    this.#vnet = regions.take(VNET_HEADER_BYTES);
    this.#singleIov = regions.take(2 * IOVEC_BYTES);
    this.#singleAddress = memory.base + this.#singleIov + this.#skip * IOVEC_BYTES;
    memory.setPointer(this.#singleIov, this.#zeroVnet);
    memory.u32[(this.#singleIov + IOVEC_LENGTH) >>> 2] = VNET_HEADER_BYTES;
  }

  /** The errno after which no write can succeed any more; 0 while there is none. */
  get fatal(): number {
    return this.#fatal;
  }

  /** Before a turn: what was refused a while ago is tried again. */
  begin(): void {
    const { options } = this.#merger;
    options.tcp = this.#options.mergeTcp && this.#mergingTcp.inForce;
    options.udp = this.#options.mergeUdp && this.#mergingUdp.inForce;
  }

  /** @param alone nothing can follow that it could be merged with */
  deliver(at: number, length: number, alone: boolean): void {
    if (alone || !this.#merger.enabled) return this.#writeAlone(at, length);
    if (this.#merger.items.full) this.flush();
    this.#merger.add(at, length);
  }

  /** Writes what the merger holds, in its order, and empties it. */
  flush(): void {
    const { items } = this.#merger;
    const { count } = items;
    for (let item = 0; item < count; item++) {
      const segments = items.segmentCount[item];
      if (this.#fatal !== 0) {
        this.#dropWrite(this.#fatal, segments);
        continue;
      }
      items.finish(item);
      const address = this.#itemAddresses[item] as number;
      if (this.#sys.writev(this.#options.tun, address, items.iovCount(item) - this.#skip) < 0) {
        this.#writeFailed(item, segments);
        continue;
      }
      this.#counters.add(Rx.writes, 1);
      if (segments > 1) {
        this.#counters.add(Rx.merged_writes, 1);
        this.#counters.add(Rx.merged_packets, segments);
        this.#mergingOf(item).succeeded();
      }
    }
    this.#counters.words[Rx.bad_inner_checksum] = this.#merger.badChecksums;
    this.#merger.reset();
  }

  #mergingOf(item: number): Refusals {
    return this.#merger.items.isTcp(item) ? this.#mergingTcp : this.#mergingUdp;
  }

  /** A merged packet that the kernel does not take is written again as the packets it was made of. */
  #writeFailed(item: number, segments: number): void {
    const errno = this.#sys.errno();
    if (segments === 1 || errno === EIO || errno === EBADFD) return this.#dropWrite(errno, segments);
    const { items, options } = this.#merger;
    if (errno === EINVAL) {
      const merging = this.#mergingOf(item);
      // the items of this receive are merged already: each would count as one more refusal
      if (merging.inForce) merging.refused(errno);
      if (items.isTcp(item)) options.tcp = false;
      else options.udp = false;
    }
    items.restore(item);
    this.#counters.add(Rx.replayed_packets, segments);
    for (let segment = 0; segment < segments; segment++) {
      this.#writeAlone(items.packetAt(item, segment), items.packetLength(item, segment));
    }
  }

  /** Writes one packet as it is. */
  #writeAlone(at: number, length: number): void {
    if (this.#fatal !== 0) return this.#dropWrite(this.#fatal, 1);
    const iovec = this.#singleIov + IOVEC_BYTES;
    this.#memory.setPointer(iovec, at);
    this.#memory.u32[(iovec + IOVEC_LENGTH) >>> 2] = length;
    if (this.#sys.writev(this.#options.tun, this.#singleAddress, 2 - this.#skip) < 0) {
      this.#dropWrite(this.#sys.errno(), 1);
    } else this.#counters.add(Rx.writes, 1);
  }

  /**
   * Hands a packet on with the note that its checksum is to be completed, and its segments to be cut. A TUN that takes no such
   * note gets the checksum completed; there a super-packet cannot be had, and the kernel refuses it as too long.
   */
  deliverUnfinished(at: number, length: number): void {
    this.flush(); // what came before goes before
    this.#counters.add(Rx.unfinished_packets, 1);
    if (!this.#options.vnetHeader) {
      completeChecksum(this.#memory, this.#sum, at, length);
      return this.#writeAlone(at, length);
    }
    noteUnfinished(this.#memory, this.#vnet, at, length, this.#options.mtu);
    this.#memory.setPointer(this.#singleIov, this.#vnet);
    this.#writeAlone(at, length);
    this.#memory.setPointer(this.#singleIov, this.#zeroVnet);
  }

  #dropWrite(errno: number, packets: number): void {
    if (errno === EBADFD) this.#fatal = errno;
    this.#counters.drop(errno === EIO ? RxDrop.tun_down : RxDrop.tun_write_error, packets);
  }
}
