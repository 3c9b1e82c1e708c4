/** The crossings of packets between two containers, measured one after another in one thread; see rig.ts. */
import { parseIpv4 } from '../../src/base/ipv4.js';
import { MSG_DONTWAIT } from '../../src/linux/constants.js';
import { syscalls } from '../../src/linux/libc.js';
import { RegionAllocator, SharedMemory } from '../../src/linux/memory.js';
import { BenchError } from '../errors.js';
import { MESSAGE_SLOTS, Message, openSocket } from './application.js';
import { type Clock, cpuClock, wallClock } from './clock.js';
import { DevicePacket, type Iovecs } from './device-packet.js';
import { native } from './native.js';
import { MTU, Rig, SINK_ADDRESS } from './rig.js';
import { time } from './stopwatch.js';
import { type TimedPart, type Timing, Watches } from './watches.js';

const IP_UDP_HEADERS = 28;
const PORT = 9;
const LARGEST = 65_536;
/** How many packets are under way at once while caches are warm: as many as stay in the first-level cache. */
const BURST_BYTES = 24 << 10;
const MOST_BURST = 16;
/** Bytes that a `short` read takes. */
const SHORT = 16;
const MOST_TRIES = 1000;

/** `warm`: what a packet leaves in the caches is still there at its next crossing. `cold`: it is not. */
export type CacheState = 'warm' | 'cold';

/** What all parts of one measurement share. */
interface Run {
  readonly length: number;
  readonly bursts: number;
  /** Packets of each burst. */
  readonly burst: number;
  readonly cache: CacheState;
  readonly clock: Clock;
  readonly watches: Watches;
}

export class Crossings {
  readonly #rig: Rig;
  readonly #clocks: readonly Clock[];
  readonly #evict: () => void;
  readonly #send: Message;
  readonly #receive: Message;
  readonly #refused: Message;
  readonly #devicePacket: DevicePacket;
  readonly #fullRoom: Iovecs;
  readonly #shortRoom: Iovecs;
  readonly #nothing: Iovecs;
  #appSender = -1;
  #appReceiver = -1;
  /** Bursts of which a packet did not arrive; they count for nothing. */
  lost = 0;

  private constructor(rig: Rig, memory: SharedMemory, clocks: readonly Clock[], evict: () => void) {
    this.#rig = rig;
    this.#clocks = clocks;
    this.#evict = evict;
    const regions = new RegionAllocator(4096);
    const buffer = regions.take(LARGEST);
    const room = regions.take(LARGEST);
    this.#send = new Message(memory, regions, buffer);
    this.#receive = new Message(memory, regions, room);
    this.#refused = new Message(memory, regions, buffer);
    this.#refused.toRefuse();
    this.#devicePacket = new DevicePacket(memory, regions, rig.mode === 'super');
    this.#fullRoom = this.#devicePacket.room(LARGEST);
    this.#shortRoom = this.#devicePacket.room(SHORT);
    this.#nothing = this.#devicePacket.nothing();
    for (let i = 0; i < LARGEST; i++) memory.u8[buffer + i] = i * 31;
  }

  /** @param evict empties the caches of what was used lately */
  static async up(mode: Rig['mode'], evict: () => void): Promise<Crossings> {
    const memory = SharedMemory.create(1 << 20);
    const wall = wallClock();
    const rig = await Rig.up(mode, wall);
    try {
      const crossings = new Crossings(rig, memory, [wall, cpuClock(memory, new RegionAllocator())], evict);
      await crossings.#openApplications();
      crossings.#warmUp(wall);
      return crossings;
    } catch (error) {
      await rig.down();
      throw error;
    }
  }

  async #openApplications(): Promise<void> {
    const [near, far] = this.#rig.ends;
    const segment = this.#rig.mode === 'super' ? MTU - IP_UDP_HEADERS : 0;
    const coalesce = this.#rig.mode === 'super';
    const open = (address: string) => () => openSocket({ address: ipv4(address), port: PORT, segment, coalesce });
    const itself = (fd: number) => fd;
    this.#appSender = this.#rig.openIn(near.container, open(near.containerAddress), itself);
    this.#appReceiver = this.#rig.openIn(far.container, open(far.containerAddress), itself);
    await this.#rig.addSink(near.container);
    await this.#rig.addSink(near.host);
  }

  async down(): Promise<void> {
    await this.#rig.down();
  }

  /** Neighbours have to find each other before anything arrives. */
  #warmUp(clock: Clock): void {
    const run = { length: MTU, bursts: 1, burst: 1, cache: 'warm', clock, watches: new Watches(clock.id) } as const;
    for (let tries = 0; !this.#burst(run); tries++) {
      if (tries > MOST_TRIES) {
        throw new BenchError(
          'RIG',
          'no packet arrives at the far container; look for firewall rules in new namespaces',
        );
      }
    }
  }

  /** Measures all crossings of packets of one length, in bytes, headers included. */
  measure(length: number, bursts: number, cache: CacheState): Timing[] {
    const burst =
      this.#rig.mode === 'super' || cache === 'cold'
        ? 1
        : Math.max(1, Math.min(MOST_BURST, Math.floor(BURST_BYTES / length)));
    return this.#clocks.flatMap((clock) => {
      const watches = new Watches(clock.id);
      const run: Run = { length, bursts, burst, cache, clock, watches };
      this.#measureFull(run);
      this.#measureCopying(run);
      this.#measureDropped(run);
      this.#measureEmpty(run);
      return watches.timings();
    });
  }

  #between({ cache }: Run): void {
    if (cache === 'cold') this.#evict();
  }

  #measureFull(run: Run): void {
    const { sender, receiver } = this.#rig;
    for (const { calls } of [sender, receiver]) {
      calls.reset();
      calls.clock = run.clock;
    }
    for (let i = 0; i < run.bursts; i++) if (!this.#burst(run)) this.lost++;
    run.watches.take('tun-read', 'full', sender.calls.full.readv);
    run.watches.take('tun-read', 'empty', sender.calls.empty.readv);
    run.watches.take('udp-send', 'full', sender.calls.full.sendmsg);
    run.watches.take('udp-receive', 'full', receiver.calls.full.recvmmsg);
    run.watches.take('tun-write', 'full', receiver.calls.full.writev);
  }

  /** Sends a burst of packets on its way and follows it. @returns false when one was lost */
  #burst(run: Run): boolean {
    const { length, burst, clock, watches } = run;
    this.#address('peer', length);
    this.#between(run);
    for (let i = 0; i < burst; i++) {
      time(clock, watches.of('app-send', 'full'), () => syscalls.sendmsg(this.#appSender, this.#send.address, 0));
    }
    this.#between(run);
    this.#drain('tx-work', this.#rig.sender, run);
    this.#between(run);
    this.#drain('rx-work', this.#rig.receiver, run);
    this.#between(run);
    for (let i = 0; i < burst; i++) {
      this.#receive.toReceive(LARGEST);
      const bytes = time(clock, watches.of('app-receive', 'full'), () =>
        native.recvmsg(this.#appReceiver, this.#receive.address, 0),
      );
      if (bytes !== length - IP_UDP_HEADERS) {
        this.#discard();
        return false;
      }
    }
    return true;
  }

  /** What the application sends goes to the far container, or to the device that drops everything. */
  #address(where: 'peer' | 'sink', length: number): void {
    const [, far] = this.#rig.ends;
    const address = ipv4(where === 'peer' ? far.containerAddress : SINK_ADDRESS);
    this.#send.toSend(address, PORT, length - IP_UDP_HEADERS);
  }

  /** Lets a forwarder do its work; what is not inside its calls is its own. */
  #drain(part: TimedPart, host: Rig['sender'] | Rig['receiver'], { clock, watches, burst }: Run): void {
    const { calls } = host;
    const insideBefore = calls.inside;
    const callsBefore = calls.calls;
    const start = clock.now();
    host.forwarder.turn();
    const total = clock.now() - start - clock.overhead;
    // each timed call adds a reading of the clock that it does not see itself
    const outside = total - (calls.inside - insideBefore) - (calls.calls - callsBefore) * clock.overhead;
    watches.of(part, 'full').add(outside / burst);
  }

  /** Throws away whatever is still under way. */
  #discard(): void {
    this.#rig.sender.forwarder.turn();
    this.#rig.receiver.forwarder.turn();
    do this.#receive.toReceive(LARGEST);
    while (native.recvmsg(this.#appReceiver, this.#receive.address, 0) >= 0);
  }

  /**
   * Reads the same packets into a buffer that holds them and into one that takes a few bytes, in the same loop, one burst
   * after the other: whatever else the two have in common drops out of their difference.
   */
  #measureCopying(run: Run): void {
    this.#address('peer', run.length);
    for (let i = 0; i < run.bursts; i++) {
      this.#readBurst(run, 'plain', LARGEST);
      this.#readBurst(run, 'short', SHORT);
    }
    this.#discard();
  }

  #readBurst(run: Run, variant: 'plain' | 'short', room: number): void {
    const { burst, clock, watches } = run;
    const { sender, receiver } = this.#rig;
    const repeat = (work: () => void) => {
      for (let i = 0; i < burst; i++) work();
    };
    const send = () => syscalls.sendmsg(this.#appSender, this.#send.address, 0);
    const device = variant === 'short' ? this.#shortRoom : this.#fullRoom;
    repeat(send);
    this.#between(run);
    repeat(() => {
      time(clock, watches.of('tun-read', variant), () => syscalls.readv(sender.tun.fd, ...device));
    });

    repeat(send);
    sender.forwarder.turn();
    this.#between(run);
    repeat(() => {
      this.#receive.toReceive(room);
      time(clock, watches.of('udp-receive', variant), () => this.#receiveDatagram());
    });

    repeat(send);
    sender.forwarder.turn();
    receiver.forwarder.turn();
    this.#between(run);
    repeat(() => {
      this.#receive.toReceive(room);
      time(clock, watches.of('app-receive', variant), () =>
        native.recvmsg(this.#appReceiver, this.#receive.address, 0),
      );
    });
  }

  /** What the daemon's forwarder does: one slot where batches are off, else more than there is to receive. */
  #receiveDatagram(): number {
    const { socket } = this.#rig.receiver;
    const slots = this.#rig.mode === 'single' ? 1 : MESSAGE_SLOTS;
    return syscalls.recvmmsg(socket.fd, this.#receive.address, slots, MSG_DONTWAIT, 0);
  }

  #measureDropped(run: Run): void {
    const { length, bursts, burst, clock, watches } = run;
    const { sender, receiver } = this.#rig;
    this.#address('sink', length);
    const bad = this.#devicePacket.bad(length);
    for (let i = 0; i < bursts; i++) {
      this.#between(run);
      for (let j = 0; j < burst; j++) {
        time(clock, watches.of('app-send', 'dropped'), () => syscalls.sendmsg(this.#appSender, this.#send.address, 0));
      }
      this.#between(run);
      for (let j = 0; j < burst; j++) {
        // as in use, a receive comes before each write
        this.#receiveDatagram();
        time(clock, watches.of('tun-write', 'dropped'), () => syscalls.writev(receiver.tun.fd, ...bad));
      }
    }
    this.#address('peer', length);
    this.#rig.sendTo('sink');
    sender.calls.reset();
    sender.calls.clock = clock;
    for (let i = 0; i < bursts; i++) {
      for (let j = 0; j < burst; j++) syscalls.sendmsg(this.#appSender, this.#send.address, 0);
      this.#between(run);
      sender.forwarder.turn();
    }
    watches.take('udp-send', 'dropped', sender.calls.full.sendmsg);
    this.#rig.sendTo('peer');
  }

  #measureEmpty(run: Run): void {
    const { bursts, burst, clock, watches } = run;
    const { sender, receiver } = this.#rig;
    const calls: readonly [TimedPart, () => number][] = [
      ['app-send', () => syscalls.sendmsg(this.#appSender, this.#refused.address, 0)],
      ['udp-send', () => syscalls.sendmsg(sender.socket.fd, this.#refused.address, 0)],
      ['udp-receive', () => this.#receiveDatagram()],
      ['tun-write', () => syscalls.writev(receiver.tun.fd, ...this.#nothing)],
      ['app-receive', () => native.recvmsg(this.#appReceiver, this.#receive.address, 0)],
    ];
    for (let i = 0; i < bursts; i++) {
      for (const [part, call] of calls) {
        this.#between(run);
        for (let j = 0; j < burst; j++) {
          this.#receive.toReceive(LARGEST);
          time(clock, watches.of(part, 'empty'), call);
        }
      }
    }
  }
}

function ipv4(text: string): number {
  return parseIpv4(text) as number;
}
