/**
 * The socket by which `wg show` sees the device. Its answers hold the private key, as `wg` wants it, so it is root's alone
 * from its first moment on: in a directory of mode 0700 where we make that, and of mode 0600 itself.
 */
import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { makeDirectory } from '../../base/atomic-file.js';
import { formatAnswer, RequestReader, type UserApiDevice } from '../../wireguard/user-api.js';

/** Who says nothing for so long, in milliseconds, is hung up on. */
const PATIENCE_MS = 5_000;
const MOST_CONNECTIONS = 16;

export class UserApiServer {
  readonly #server: Server;
  readonly #path: string;
  readonly #open = new Set<Socket>();

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.#path = path;
    server.on('connection', (socket) => {
      this.#open.add(socket);
      socket.once('close', () => this.#open.delete(socket));
    });
  }

  /**
   * @param device what is told, asked anew for each request
   * @throws Error when the socket cannot be made, or another process serves it
   */
  static async open(directory: string, name: string, device: () => UserApiDevice): Promise<UserApiServer> {
    await makeDirectory(directory, 0o700);
    const file = path.join(directory, `${name}.sock`);
    if (await isServed(file)) throw new Error(`${file} is served by another process`);
    rmSync(file, { force: true });
    const server = createServer((socket) => serve(socket, device));
    server.maxConnections = MOST_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      // a pipe is bound before listen returns, so nobody else's file comes under this mask
      const mask = process.umask(0o177);
      try {
        server.listen(file, () => resolve());
      } finally {
        process.umask(mask);
      }
    });
    chmodSync(file, 0o600);
    server.unref();
    return new UserApiServer(server, file);
  }

  close(): void {
    for (const socket of this.#open) socket.destroy();
    this.#server.close(); // removes the socket, too
    rmSync(this.#path, { force: true });
  }
}

function serve(socket: Socket, device: () => UserApiDevice): void {
  const reader = new RequestReader();
  socket.setEncoding('utf8');
  socket.setTimeout(PATIENCE_MS, () => socket.destroy());
  socket.on('error', () => {});
  socket.on('data', (text) => {
    for (const request of reader.push(String(text))) socket.write(formatAnswer(request, device()));
  });
}

function isServed(file: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(file);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
