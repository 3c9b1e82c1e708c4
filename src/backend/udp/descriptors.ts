import { messageOf, TweedError } from '../../base/errors.js';
import {
  adoptUdpSocket,
  openUdpSocket,
  type UdpSocket,
  type UdpSocketOptions,
} from '../../encap/datapath/udp-socket.js';
import type { Inheritance } from '../../linux/inheritance.js';
import { control } from '../../linux/libc.js';
import { adoptTun } from '../../tun/adopt.js';
import { openTun, type Switch, type TunDevice, withoutLinkLocal } from '../../tun/device.js';

export interface DescriptorOptions extends Omit<UdpSocketOptions, 'address'> {
  /** This host's addresses on the underlay, of which there is one at least: a socket is bound to each. */
  readonly address: number | null;
  readonly addressV6?: bigint | null;
  readonly device: string;
  /** By what name the next process, or the next backend of this one, finds the device: only where one process has several. */
  readonly deviceKey?: string;
  readonly tso: Switch;
  readonly uso: Switch;
}

/** By what names the next process, or the next backend of this one, finds them. */
const TUN = 'tun';
/** Of a second device, for IPv6. */
export const TUN_V6 = 'tun6';
const SOCKET = 'udp';
const SOCKET_V6 = 'udp6';

/** What it takes to have them. */
export interface DescriptorContext {
  readonly inherited: Inheritance;
  /** Takes away a device that is behind an inherited descriptor and does not fit. */
  removeDevice(name: string): Promise<unknown>;
  /** What became of those that were inherited, in words. */
  note(text: string): void;
}

/** The device of the daemon whose place is to be taken is not one that these options can use. */
export class DeviceSharedError extends TweedError {
  constructor(device: string, reason: string) {
    super(
      'DEVICE_SHARED',
      `${device} of the daemon that runs does not fit: ${reason}; use its -tun-tso, or stop it and start this one`,
    );
  }
}

/** What packets go through: the device and the sockets. The device lives as long as its descriptor. */
export class Descriptors {
  private constructor(
    readonly tun: TunDevice,
    /** Null where the underlay has no address of that family. */
    readonly ipv4: UdpSocket | null,
    readonly ipv6: UdpSocket | null,
    /** Why there is no socket though there is an address, in words; empty for none. */
    readonly missing: string,
    readonly deviceKey: string,
    /** The device is the one that was inherited. */
    readonly sameDevice: boolean,
  ) {}

  /**
   * Makes all of them. The device is down and has no address yet: where another daemon has the port, it keeps those too.
   *
   * @throws what `openTun` and `openUdpSocket` do; nothing is left behind then
   */
  static open(options: DescriptorOptions): Descriptors {
    return Descriptors.#complete(newTun(options), false, options, (socket) => openUdpSocket(socket));
  }

  /** Takes those that were inherited where they fit, and makes the others. @throws as `open` does */
  static async inherit(options: DescriptorOptions, context: DescriptorContext): Promise<Descriptors> {
    const former = await inheritedTun(options, context);
    return Descriptors.#complete(
      former ?? newTun(options),
      former !== null,
      options,
      (socket, name) => inheritedSocket(name, socket, context) ?? openUdpSocket(socket),
    );
  }

  /** What works by IPv4 goes on without an IPv6 socket. */
  static #complete(
    tun: TunDevice,
    sameDevice: boolean,
    options: DescriptorOptions,
    open: (options: UdpSocketOptions, name: string) => UdpSocket,
  ): Descriptors {
    const { address, addressV6 = null, deviceKey = TUN } = options;
    try {
      const ipv4 = address === null ? null : open({ ...options, address }, SOCKET);
      if (addressV6 === null) return new Descriptors(tun, ipv4, null, '', deviceKey, sameDevice);
      try {
        const ipv6 = open({ ...options, address: addressV6 }, SOCKET_V6);
        return new Descriptors(tun, ipv4, ipv6, '', deviceKey, sameDevice);
      } catch (error) {
        if (ipv4 === null) throw error;
        return new Descriptors(tun, ipv4, null, messageOf(error), deviceKey, sameDevice);
      }
    } catch (error) {
      control.close(tun.fd);
      throw error;
    }
  }

  get sockets(): readonly UdpSocket[] {
    return [this.ipv4, this.ipv6].filter((socket) => socket !== null);
  }

  /** One of the sockets: they are set up alike. */
  get socket(): UdpSocket {
    return this.sockets[0] as UdpSocket;
  }

  get byName(): ReadonlyMap<string, number> {
    return new Map([
      [this.deviceKey, this.tun.fd],
      ...(this.ipv4 === null ? [] : [[SOCKET, this.ipv4.fd] as const]),
      ...(this.ipv6 === null ? [] : [[SOCKET_V6, this.ipv6.fd] as const]),
    ]);
  }

  /** Gives them to whoever comes next; without a heir the device goes. */
  leave(heir?: Inheritance): void {
    for (const [name, fd] of this.byName) {
      if (heir === undefined) control.close(fd);
      else heir.put(name, fd);
    }
  }
}

function newTun(options: DescriptorOptions): TunDevice {
  const tun = openTun(options.device, options);
  withoutLinkLocal(options.device);
  return tun;
}

async function inheritedTun(
  options: DescriptorOptions,
  { inherited, note, removeDevice }: DescriptorContext,
): Promise<TunDevice | null> {
  const fd = inherited.take(options.deviceKey ?? TUN);
  if (fd === null) return null;
  const found = use(fd, () => adoptTun(fd, options.device, options));
  if ('fd' in found) {
    note(`took the device ${found.name} as it was left`);
    return found;
  }
  control.close(fd);
  if (inherited.shared) throw new DeviceSharedError(options.device, found.reason);
  note(`the device that was left does not fit, and is made anew: ${found.reason}`);
  // somebody may have another descriptor of it, so that it does not go with ours
  if (found.device !== '') await removeDevice(found.device);
  return null;
}

function inheritedSocket(name: string, options: UdpSocketOptions, { inherited, note }: DescriptorContext) {
  const fd = inherited.take(name);
  if (fd === null) return null;
  const found = use(fd, () => adoptUdpSocket(fd, options));
  if (typeof found !== 'string') return found;
  note(`the socket that was left does not fit, and is made anew: ${found}`);
  control.close(fd);
  return null;
}

/** Closes it when that throws. */
function use<Result>(fd: number, attempt: () => Result): Result {
  try {
    return attempt();
  } catch (error) {
    control.close(fd);
    throw error;
  }
}
