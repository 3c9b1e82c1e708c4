/**
 * One daemon takes the place of another without a moment in which nobody forwards.
 *
 * Theory of operation. The new daemon makes everything ready that it can beside the old one. Then it connects to the old
 * one's hand-over socket, which only the owner may write to, and names a datagram socket of its own. To that the old one
 * sends its descriptors (SCM_RIGHTS), and both have the same device and the same socket, with the same queues: whoever is
 * awake takes the next packet. The new one begins to forward, says so, and only then the old one stops, leaves everything
 * as it is, releases its locks and ends. Until the new one has said so nothing has happened: when it ends, or the connection
 * breaks, the old one goes on.
 *
 * The words are lines of JSON: `{"take": PATH, "serving": WHAT}`, answered by `{"given": [NAME, …]}` or `{"refused": WHY}`; then
 * `{"forwarding": true}`, answered by the end of the connection when the old daemon has let go of everything.
 */
import fs from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { messageOf, TweedError } from '../base/errors.js';
import { type JsonLimits, parseJson } from '../base/json.js';
import type { Logger } from '../base/log.js';
import { lockHolder } from '../linux/file-lock.js';
import type { Inheritance } from '../linux/inheritance.js';
import { sendUnixDatagram, UnixReceiver } from '../linux/unix-datagram.js';
import { socketNames } from '../observe/socket-names.js';

/** The old daemon would not, or could not. It goes on. */
export class HandOverError extends TweedError {
  constructor(reason: string, options?: ErrorOptions) {
    super(
      'HAND_OVER',
      `the running daemon does not hand over: ${reason}; it goes on, stop it to start another`,
      options,
    );
  }
}

/** Another daemon has taken this one's place: the reason for which this one ends. */
export class TakenOverError extends TweedError {
  constructor() {
    super('TAKEN_OVER', 'another daemon has taken over; nothing is left to do');
  }
}

/** What the old daemon gives. */
export interface Giver {
  /** What it serves: the same words as the new daemon's. */
  serving(): string;
  /** By name. */
  descriptors(): ReadonlyMap<string, number>;
  /** Why it does not hand over now; empty when it does. */
  refusal(): string;
  /** The new daemon forwards: time to go. */
  onTaken(): void;
}

export interface HandOverServer {
  /** No new daemon is listened to any more. The one that took over learns of the end by that of the process, or `close`. */
  close(): Promise<void>;
}

/** The old daemon has answered so long after it was asked, at the latest; or ended, after it was told to. */
const PATIENCE_MS = 5_000;

/** A path, or a few names. */
const LIMITS: JsonLimits = { length: 4096, depth: 2 };

/** Beside the status socket, of which each daemon in a run directory has its own. */
export function handOverSocket(statusSocket: string): string {
  return statusSocket.replace(/\.sock$/, '.handover');
}

/**
 * Where that daemon listens, by the lock beside its status socket, in which its process number stands.
 *
 * @throws HandOverError when it has no status socket in that directory
 */
export function handOverSocketOf(runDirectory: string, holder: number | null): string {
  for (const name of socketNames) {
    const socket = path.join(runDirectory, name);
    if (holder !== null && lockHolder(`${socket}.lock`) === holder) return handOverSocket(socket);
  }
  throw new HandOverError(`it has no status socket in ${runDirectory}`);
}

/**
 * The old daemon's side.
 *
 * @param file only one daemon at a time may listen there: it is replaced
 */
export async function offerHandOver(file: string, giver: Giver, log: Logger): Promise<HandOverServer> {
  const connections = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    connections.add(socket);
    socket.on('close', () => connections.delete(socket));
    socket.on('error', () => {}); // the new daemon has ended: nothing has happened
    onLines(socket, (line) => {
      const answer = answerTo(line, giver, log);
      if (answer !== null) socket.write(`${JSON.stringify(answer)}\n`);
    });
  });
  await fs.rm(file, { force: true });
  const mask = process.umask(0o177);
  const listening = new Promise<void>((resolve, reject) => server.once('error', reject).listen(file, resolve));
  process.umask(mask);
  await listening;
  server.on('error', (error) => log.warn({ err: error }, 'hand-over socket failed'));
  server.unref();
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve()); // removes the file
        for (const socket of connections) socket.destroy();
      }),
  };
}

function onLines(socket: net.Socket, callback: (line: string) => void): void {
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    const lines = `${rest}${chunk}`.split('\n');
    rest = lines.pop() as string;
    for (const line of lines) callback(line);
    if (rest.length > LIMITS.length) socket.destroy();
  });
}

function answerTo(line: string, giver: Giver, log: Logger): object | null {
  const request = parseRequest(line);
  if (request === 'forwarding') {
    log.info('another daemon forwards now; leaving everything to it');
    giver.onTaken();
    return null;
  }
  if (request === null) return { refused: 'the request is not understood' };
  const other = request.serving === giver.serving() ? '' : `it serves ${giver.serving()}, not ${request.serving}`;
  const refusal = other || giver.refusal();
  if (refusal !== '') return { refused: refusal };
  try {
    const descriptors = giver.descriptors();
    sendUnixDatagram(request.take, '', [...descriptors.values()]);
    log.info('another daemon gets ready to take over');
    return { given: [...descriptors.keys()] };
  } catch (error) {
    return { refused: messageOf(error) };
  }
}

function parseRequest(line: string): 'forwarding' | { readonly take: string; readonly serving: string } | null {
  const request = parseObject(line);
  if (request?.forwarding === true) return 'forwarding';
  const { take, serving } = request ?? {};
  return typeof take === 'string' && typeof serving === 'string' ? { take, serving } : null;
}

function parseObject(line: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = parseJson(line, LIMITS);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** The new daemon's side. */
export class HandOver {
  readonly #socket: net.Socket;
  readonly #ended: Promise<void>;
  readonly #inheritance: Inheritance;

  private constructor(socket: net.Socket, inheritance: Inheritance) {
    this.#socket = socket;
    this.#inheritance = inheritance;
    this.#ended = new Promise((resolve) => socket.once('close', () => resolve()));
  }

  /**
   * Asks the daemon that listens there for its descriptors.
   *
   * @param serving what both serve; they have to mean the same
   * @param inheritance gets them; it counts as shared until the old daemon has ended
   * @throws HandOverError
   */
  static async begin(file: string, serving: string, inheritance: Inheritance): Promise<HandOver> {
    const inbox = `${file}.${process.pid}`;
    await fs.rm(inbox, { force: true });
    const receiver = new UnixReceiver(inbox);
    const socket = net.connect(file);
    const handOver = new HandOver(socket, inheritance);
    try {
      const given = await handOver.#ask({ take: inbox, serving });
      const { descriptors } = receiver.receive() ?? { descriptors: [] };
      for (const [i, name] of given.entries()) if (i in descriptors) inheritance.put(name, descriptors[i] as number);
      inheritance.shared = true;
      return handOver;
    } catch (error) {
      socket.destroy();
      throw new HandOverError(messageOf(error), { cause: error });
    } finally {
      receiver.close();
      await fs.rm(inbox, { force: true });
    }
  }

  /** We forward. Waits until the old daemon has let go of everything; false when it has not for too long. */
  async complete(): Promise<boolean> {
    this.#socket.write('{"forwarding":true}\n');
    const ended = await withinPatience(this.#ended.then(() => true)).catch(() => false);
    this.#inheritance.shared = false;
    return ended;
  }

  async #ask(request: object): Promise<readonly string[]> {
    const answered = new Promise<string>((resolve, reject) => {
      onLines(this.#socket, resolve);
      this.#socket.on('error', reject);
      this.#socket.once('close', () => reject(new Error('it ended the connection')));
      this.#socket.write(`${JSON.stringify(request)}\n`);
    });
    const answer = parseObject(await withinPatience(answered));
    if (typeof answer?.refused === 'string') throw new Error(answer.refused);
    const { given } = answer ?? {};
    if (!Array.isArray(given)) throw new Error('its answer is not understood');
    return given.map(String);
  }
}

async function withinPatience<Result>(work: Promise<Result>): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${PATIENCE_MS / 1000} s`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
