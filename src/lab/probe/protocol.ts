/**
 * What the lab asks its probes: one JSON object a line on the probe's standard input, one answer a line on its
 * standard output. Addresses are text of either family, sizes bytes, times milliseconds.
 */

/** Where a probe's servers listen, on all its addresses. */
export interface Ports {
  readonly tcp: number;
  readonly udp: number;
}

export interface PingResult {
  readonly received: boolean;
  readonly detail: string;
}

export interface TransferResult {
  /** SHA-256 of what was sent and of what arrived. */
  readonly sentHash: string;
  readonly receivedHash: string;
  readonly bytes: number;
  readonly milliseconds: number;
  /** The sender's address as the receiver saw it. */
  readonly seenAs: string;
}

export interface ExchangeResult {
  /** Did the same bytes come back? */
  readonly returned: boolean;
  /** How many times it was sent before the answer came. */
  readonly tries: number;
  readonly seenAs: string;
}

/** A stream of numbered datagrams to another probe, which sends each of them back. */
export interface StreamResult {
  readonly sent: number;
  readonly received: number;
  /** The longest time in which nothing came back. */
  readonly longestGap: number;
  /** Datagrams refused by the own kernel, which never left. */
  readonly refused: number;
}

/** A TCP connection to another probe that is kept open, with a small exchange at every interval. */
export interface ConnectionResult {
  readonly exchanges: number;
  readonly longestGap: number;
  /** Why the connection ended by itself; empty while it is alive. */
  readonly brokenBy: string;
}

/** What became of one packet, as the program that sent it was told. */
export interface SendResult {
  readonly outcome: 'answer' | 'silence' | 'error';
  /** The error's code, such as `ECONNREFUSED`, or words; empty for none. */
  readonly error: string;
  readonly waitedMs: number;
}

/** Every request with the arguments it takes and the answer it gets. */
export interface Requests {
  ports: { arguments: Record<string, never>; answer: Ports };
  ping: { arguments: { address: string; timeout: number }; answer: PingResult };
  transfer: { arguments: { address: string; port: number; bytes: number; timeout: number }; answer: TransferResult };
  exchange: {
    arguments: { address: string; port: number; bytes: number; tries: number; timeout: number };
    answer: ExchangeResult;
  };
  startStream: {
    arguments: { address: string; port: number; bytes: number; interval: number };
    answer: { stream: number };
  };
  stopStream: { arguments: { stream: number; grace: number }; answer: StreamResult };
  openConnection: { arguments: { address: string; port: number; interval: number }; answer: { connection: number } };
  closeConnection: { arguments: { connection: number }; answer: ConnectionResult };
  /** The payload is hex; what is sent by TCP behind the connection's begin may be empty. `port` is nothing to ICMP. */
  send: {
    arguments: { protocol: 'icmp' | 'udp' | 'tcp'; address: string; port: number; payload: string; timeout: number };
    answer: SendResult;
  };
  listen: { arguments: { protocol: 'udp' | 'tcp'; port: number }; answer: Record<string, never> };
  putNetworkConfig: {
    arguments: { endpoint: string; config: string; timeout: number };
    answer: Record<string, never>;
  };
}

export type RequestName = keyof Requests;

export interface RequestLine {
  readonly id: number;
  readonly name: RequestName;
  readonly arguments: unknown;
}

export type AnswerLine =
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly error: string };
