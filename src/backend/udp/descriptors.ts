import { openUdpSocket, type UdpSocket, type UdpSocketOptions } from '../../encap/datapath/udp-socket.js';
import { control } from '../../linux/libc.js';
import { openTun, type Switch, type TunDevice, withoutLinkLocal } from '../../tun/device.js';

export interface DescriptorOptions extends UdpSocketOptions {
  readonly device: string;
  readonly tso: Switch;
  readonly uso: Switch;
}

/** What packets go through: the device and the socket. The device lives as long as its descriptor. */
export class Descriptors {
  private constructor(
    readonly tun: TunDevice,
    readonly socket: UdpSocket,
  ) {}

  /**
   * Makes both. The device is down and has no address yet: where another daemon has the port, it keeps those too.
   *
   * @throws what `openTun` and `openUdpSocket` do; nothing is left behind then
   */
  static open(options: DescriptorOptions): Descriptors {
    const tun = openTun(options.device, options);
    try {
      withoutLinkLocal(options.device);
      return new Descriptors(tun, openUdpSocket(options));
    } catch (error) {
      control.close(tun.fd);
      throw error;
    }
  }

  close(): void {
    for (const fd of [this.tun.fd, this.socket.fd]) control.close(fd);
  }
}
