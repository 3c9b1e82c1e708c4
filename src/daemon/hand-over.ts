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
 * Among the descriptors are vessels: files in memory, empty yet, into which the old one puts what of its state the new one can
 * go on with, when it has stopped and knows it. Each new daemon gets vessels of its own, and only those of the one that
 * forwards are filled.
 *
 * The words are lines of JSON: `{"take": PATH, "serving": WHAT}`, answered by `{"given": [NAME, …]}` or `{"refused": WHY}`; then
 * `{"forwarding": true}`, answered by `{"stopped": true}` when the old daemon forwards no more and has filled its vessels, and by the
 * end of the connection when it has let go of everything.
 */
import fs from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { messageOf, TweedError } from '../base/errors.js';
import { type JsonLimits, parseJson } from '../base/json.js';
import type { Logger } from '../base/log.js';
import { lockHolder } from '../linux/file-lock.js';
import { Inheritance } from '../linux/inheritance.js';
import { sendUnixDatagram, UnixReceiver } from '../linux/unix-datagram.js';
import { makeVessel } from '../linux/vessel.js';
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
  /** What it can leave when it has stopped, by name. */
  vessels(): readonly string[];
  /** Why it does not hand over now; empty when it does. */
  refusal(): string;
  /** The new daemon forwards: time to go. @param vessels to fill */
  onTaken(vessels: Inheritance): void;
}

export interface HandOverServer {
  /** Nothing is forwarded any more, and the vessels are filled. */
  stopped(): void;
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
  const connections = new Map<net.Socket, Taker>();
  const server = net.createServer((socket) => {
    const taker = new Taker(giver, log);
    connections.set(socket, taker);
    socket.on('close', () => {
      connections.delete(socket);
      taker.leave();
    });
    socket.on('error', () => {}); // the new daemon has ended: nothing has happened
    onLines(socket, (line) => {
      const answer = taker.answerTo(line);
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
    stopped: () => {
      for (const [socket, { goesOn }] of connections)
        if (goesOn) socket.write(`${JSON.stringify({ stopped: true })}\n`);
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve()); // removes the file
        for (const socket of connections.keys()) socket.destroy();
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

/** A new daemon, as the old one sees it. */
class Taker {
  readonly #giver: Giver;
  readonly #log: Logger;
  #vessels = new Inheritance();
  /** It has said that it forwards. */
  goesOn = false;

  constructor(giver: Giver, log: Logger) {
    this.#giver = giver;
    this.#log = log;
  }

  answerTo(line: string): object | null {
    const giver = this.#giver;
    const request = parseRequest(line);
    if (request === 'forwarding') {
      this.#log.info('another daemon forwards now; leaving everything to it');
      this.goesOn = true;
      const vessels = this.#vessels;
      this.#vessels = new Inheritance();
      giver.onTaken(vessels);
      return null;
    }
    if (request === null) return { refused: 'the request is not understood' };
    const other = request.serving === giver.serving() ? '' : `it serves ${giver.serving()}, not ${request.serving}`;
    const refusal = other || giver.refusal();
    if (refusal !== '') return { refused: refusal };
    try {
      const given = new Map(giver.descriptors());
      for (const name of giver.vessels()) {
        const vessel = makeVessel(name);
        this.#vessels.put(name, vessel);
        given.set(name, vessel);
      }
      sendUnixDatagram(request.take, '', [...given.values()]);
      this.#log.info('another daemon gets ready to take over');
      return { given: [...given.keys()] };
    } catch (error) {
      return { refused: messageOf(error) };
    }
  }

  /** It is gone, or told to go on. */
  leave(): void {
    this.#vessels.close();
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
    onLines(this.#socket, (line) => {
      if (parseObject(line)?.stopped === true) this.#inheritance.shared = false;
    });
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
