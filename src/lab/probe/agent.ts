/** The program that runs inside a place of the lab and makes traffic for it. See protocol.ts. */
import { createInterface } from 'node:readline';
import { messageOf } from '../../base/errors.js';
import { PROGRAM_LIMITS, parseJson } from '../../base/json.js';
import { listen, sendOne } from './one-packet.js';
import type { RequestLine, RequestName, Requests } from './protocol.js';
import { startServers } from './servers.js';
import { DatagramStream, KeptConnection } from './streams.js';
import { exchange, ping, transfer } from './traffic.js';

const ports = startServers();
const streams = new Map<number, DatagramStream>();
const connections = new Map<number, KeptConnection>();
let lastNumber = 0;

function taken<T>(from: Map<number, T>, number: number): T {
  const found = from.get(number);
  if (found === undefined) throw new Error(`there is no number ${number}; start it first`);
  from.delete(number);
  return found;
}

const handlers: {
  [Name in RequestName]: (args: Requests[Name]['arguments']) => Promise<Requests[Name]['answer']>;
} = {
  ports: () => ports,
  ping: ({ address, timeout }) => ping(address, timeout),
  transfer: ({ address, port, bytes, timeout }) => transfer(address, port, bytes, timeout),
  exchange: ({ address, port, bytes, tries, timeout }) => exchange(address, port, bytes, tries, timeout),
  startStream: async ({ address, port, bytes, interval }) => {
    streams.set(++lastNumber, new DatagramStream(address, port, bytes, interval));
    return { stream: lastNumber };
  },
  stopStream: ({ stream, grace }) => taken(streams, stream).stop(grace),
  openConnection: async ({ address, port, interval }) => {
    const connection = await KeptConnection.open(address, port, interval);
    connections.set(++lastNumber, connection);
    return { connection: lastNumber };
  },
  send: (args) => sendOne(args),
  listen: async (args) => {
    await listen(args);
    return {};
  },
  putNetworkConfig: async ({ endpoint, config, timeout }) => {
    // Loaded here only: traffic needs no registry, and starts sooner without it.
    const { putNetworkConfig } = await import('./network-config.js');
    await putNetworkConfig(endpoint, config, timeout);
    return {};
  },
  closeConnection: async ({ connection }) => taken(connections, connection).close(),
};

async function answer(line: string): Promise<void> {
  const request = parseJson(line, PROGRAM_LIMITS) as RequestLine;
  const handler = handlers[request.name] as (args: unknown) => Promise<unknown>;
  try {
    reply({ id: request.id, answer: await handler(request.arguments) });
  } catch (error) {
    reply({ id: request.id, error: messageOf(error) });
  }
}

function reply(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

createInterface({ input: process.stdin })
  .on('line', (line) => void answer(line))
  .on('close', () => process.exit(0));
