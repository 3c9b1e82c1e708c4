/**
 * As much of HTTP as it takes to ask a daemon through its unix socket. Node's own client costs a short-lived command a
 * quarter of its time, in Node 24 more than half: it brings the code for TLS and for connections that are kept.
 */
import net from 'node:net';

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
    });
    socket.on('error', reject);
    socket.on('close', () => {
      clearTimeout(late);
      const answer = parseAnswer(text);
      if (answer === null) reject(new Error('the answer is not in HTTP'));
      else resolve(answer);
    });
    // not `end`: a server may take a half-closed connection for one that nobody waits at
    socket.write(
      `${method} ${url} HTTP/1.0\r\nHost: tweed\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
  });
}

/** Null for what is none. */
export function parseAnswer(text: string): UnixAnswer | null {
  const match = /^HTTP\/1\.[01] (\d{3})[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n/.exec(text);
  return match === null ? null : { status: Number(match[1]), body: text.slice(match[0].length) };
}
