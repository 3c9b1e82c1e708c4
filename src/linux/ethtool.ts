/** Switches of a network device that `ip` does not set (linux/ethtool.h), by the ioctl that every kernel has. */
import { AF_INET, SOCK_DGRAM } from './constants.js';
import { SystemCallError } from './errno.js';
import { control } from './libc.js';
import { SharedMemory } from './memory.js';

const SIOCETHTOOL = 0x8946;
/** The commands that read a state and set it. `link`: both ends of it are up. */
const GET = { tso: 0x1e, gro: 0x2b, link: 0x0a } as const;
const SET = { tso: 0x1f, gro: 0x2c } as const;
/** `struct ifreq`: the name, its zero included, and behind it the address of a `struct ethtool_value`. */
const IFNAMSIZ = 16;
const IFREQ_BYTES = 40;
const VALUE_BYTES = 8;

export type DeviceState = keyof typeof GET;
export type DeviceSwitch = keyof typeof SET;
/** The system calls; a test scripts them. */
export type EthtoolCalls = Pick<typeof control, 'socket' | 'ioctl' | 'close' | 'errno'>;

/** Whether a device is in this state. @throws SystemCallError when there is no such device */
export function deviceState(name: string, what: DeviceState, calls?: EthtoolCalls, memory?: SharedMemory): boolean {
  return withDevice(name, (ask) => ask(GET[what], 0), calls, memory);
}

/**
 * Turns a device's switch on or off. A driver may agree and do nothing, so the answer is what is in force afterwards.
 *
 * @throws SystemCallError when there is no such device or the kernel refuses
 */
export function setDeviceSwitch(
  name: string,
  what: DeviceSwitch,
  on: boolean,
  calls?: EthtoolCalls,
  memory?: SharedMemory,
): boolean {
  const work = (ask: Ask) => {
    ask(SET[what], on ? 1 : 0);
    return ask(GET[what], 0);
  };
  return withDevice(name, work, calls, memory);
}

/** @returns whether the value that the kernel leaves is another than 0 */
type Ask = (command: number, value: number) => boolean;

/** For one call after the other: the control thread alone asks. */
let scratch: SharedMemory | null = null;
function ownScratch(): SharedMemory {
  scratch ??= SharedMemory.create(VALUE_BYTES + IFREQ_BYTES);
  return scratch;
}

function withDevice(
  name: string,
  work: (ask: Ask) => boolean,
  calls: EthtoolCalls = control,
  memory: SharedMemory = ownScratch(),
): boolean {
  const socket = calls.socket(AF_INET, SOCK_DGRAM, 0);
  if (socket < 0) throw new SystemCallError('socket', calls.errno(), 'raise the limit of open files');
  const request = memory.u8.subarray(VALUE_BYTES, VALUE_BYTES + IFREQ_BYTES);
  request.fill(0);
  request.set(Buffer.from(name).subarray(0, IFNAMSIZ - 1));
  memory.setPointer(VALUE_BYTES + IFNAMSIZ, 0);
  try {
    return work((command, value) => {
      memory.u32[0] = command;
      memory.u32[1] = value;
      if (calls.ioctl(socket, SIOCETHTOOL, request) >= 0) return memory.u32[1] !== 0;
      throw new SystemCallError('ioctl SIOCETHTOOL', calls.errno(), `is there a device ${name}, and CAP_NET_ADMIN?`);
    });
  } finally {
    calls.close(socket);
  }
}
