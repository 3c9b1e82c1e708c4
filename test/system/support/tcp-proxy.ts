import { createServer, connect as dial, type Server, type Socket } from 'node:net';

/** A proxy in front of a server that can fall silent as a cut cable does: nothing is closed, nothing gets through. */
export class TcpProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #silent = false;
  port = 0;

  constructor(target: { readonly host: string; readonly port: number }) {
    this.#server = createServer((client) => {
      this.#keep(client);
      if (this.#silent) return;
      const upstream = dial(target.port, target.host);
      this.#keep(upstream);
      client.on('data', (chunk) => this.#silent || upstream.write(chunk));
      upstream.on('data', (chunk) => this.#silent || client.write(chunk));
      client.on('close', () => upstream.destroy());
      upstream.on('close', () => client.destroy());
    });
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.port = (this.#server.address() as { port: number }).port;
    return this;
  }

  cut(): void {
    this.#silent = true;
  }

  /** New connections work again; those from before stay dead. */
  mend(): void {
    for (const socket of this.#sockets) socket.removeAllListeners('data').on('data', () => {});
    this.#silent = false;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
  }
}
