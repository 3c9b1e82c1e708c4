import { exec } from '../../src/base/exec.js';
import { inside } from '../../src/lab/namespace.js';
import { BenchError } from '../errors.js';
import { builtFile } from '../harness/paths.js';
import type { RequestResult } from '../tools/request-client.js';

export const ECHO_PORT = 7;

/** The words that start the echo server; it says `ready`. */
export function echoServer(): string[] {
  return [process.execPath, builtFile('tools/echo-server'), String(ECHO_PORT)];
}

/** Sends request after request from a namespace to an echo server. */
export async function askEcho(
  namespace: string,
  address: string,
  options: { readonly kind: 'udp' | 'tcp' | 'connect'; readonly seconds: number; readonly bytes: number },
): Promise<RequestResult> {
  const { kind, seconds, bytes } = options;
  const words = [kind, address, String(ECHO_PORT), String(seconds * 1000), String(bytes)];
  const argv = inside(namespace, [process.execPath, builtFile('tools/request-client'), ...words]);
  const { stdout } = await exec(argv, { timeoutMs: seconds * 1000 + 15_000 });
  const result = JSON.parse(stdout) as RequestResult;
  if (result.requests === 0) {
    throw new BenchError(
      'REQUESTS',
      `no ${kind} request from ${namespace} to ${address} was answered; is the tunnel up?`,
    );
  }
  return result;
}
