/**
 * As much of HTTP as it takes to ask a daemon through its unix socket. Node's own client costs a short-lived command a
 * quarter of its time, in Node 24 more than half: it brings the code for TLS and for connections that are kept.
 */
import net from 'node:net';
import { PROGRAM_LIMITS } from '../base/json.js';

export interface UnixAnswer {
  readonly status: number;
  readonly body: string;
}

/** Asks in HTTP/1.0, where the answer ends with the connection. @throws Error with the `code` of the failed call */
export function askUnix(
  socketPath: string,
  method: string,
  url: string,
  { body = '', timeoutMs = 5000 }: { readonly body?: string; readonly timeoutMs?: number } = {},
): Promise<UnixAnswer> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = net.connect(socketPath);
    const late = setTimeout(() => socket.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      text += chunk;
      if (text.length > PROGRAM_LIMITS.length) socket.destroy(new Error('the answer does not end'));
    });
    socket.on('error', reject);
    socket.on('close', () => {
      clearTimeout(late);
      const answer = parseAnswer(text);
      if (answer === null) reject(new Error('the answer is cut off, or not in HTTP'));
      else resolve(answer);
    });
    // not `end`: a server may take a half-closed connection for one that nobody waits at
    socket.write(
      `${method} ${url} HTTP/1.0\r\nHost: tweed\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
  });
}

/** Null for what is none, or not all of one. */
export function parseAnswer(text: string): UnixAnswer | null {
  const match = /^HTTP\/1\.[01] (\d{3})[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n/.exec(text);
  if (match === null) return null;
  const body = text.slice(match[0].length);
  const length = /^content-length: *(\d+)\r$/im.exec(match[0])?.[1];
  return length !== undefined && Number(length) > Buffer.byteLength(body) ? null : { status: Number(match[1]), body };
}
