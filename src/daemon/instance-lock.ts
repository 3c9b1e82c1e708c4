import net from 'node:net';
import { TweedError } from '../base/errors.js';

/** Another daemon already serves the device. */
export class AlreadyRunningError extends TweedError {
  constructor(device: string, process: string) {
    super(
      'ALREADY_RUNNING',
      `another tweed${process} already serves ${device} in this network namespace; stop it first, or choose another name with -device`,
    );
  }
}

export interface InstanceLock {
  release(): Promise<void>;
}

/**
 * Makes sure that one daemon at most serves a device of this network namespace.
 *
 * The lock is an abstract unix socket (unix(7)): such names belong to the network namespace, as devices do, and vanish
 * with the process that holds them, however it ends. Whoever connects is told the holder's process id.
 *
 * @throws AlreadyRunningError
 */
export async function lockDevice(device: string): Promise<InstanceLock> {
  const path = `\0tweed/${device}`;
  const server = net.createServer((connection) => {
    connection.on('error', () => {}); // it went away before it heard the answer
    connection.end(String(process.pid));
  });
  server.unref();
  try {
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen({ path }, resolve));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    throw new AlreadyRunningError(device, await holderOf(path));
  }
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}

/** ` (process 123)`, or nothing when the holder does not say within a second. */
function holderOf(path: string): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = net.connect({ path });
    socket.setTimeout(1000, () => socket.destroy());
    socket.on('data', (chunk) => {
      answer += chunk;
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(/^\d{1,10}$/.test(answer) ? ` (process ${answer})` : ''));
  });
}
