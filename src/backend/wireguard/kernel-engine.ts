/**
 * The engine in the kernel: its WireGuard device, set up through `ip` and `wg`. Keys go to `wg` by its standard input, never
 * by an argument, which every user of the host could read.
 *
 * The kernel forwards and follows peers that roam; what is left to do is compare the peers that it has with those that it
 * should have, and write them anew where they differ.
 */
import { formatAnyPrefix, formatEndpoint } from '../../base/address.js';
import { messageOf, TweedError } from '../../base/errors.js';
import { type ExecResult, exec } from '../../base/exec.js';
import { plural } from '../../base/plural.js';
import type { OverlayNetworks } from '../../encap/forwarding/layout.js';
import { deviceTotals } from '../../routes/device-statistics.js';
import type { Run } from '../../routes/ip.js';
import { ensureLink, readLink, type WantedLink } from '../../routes/links.js';
import { halvesOf } from '../../subnet/lease.js';
import { formatKey, type PrivateKey } from '../../wireguard/keys.js';
import { type PeerStatus, peerNames } from '../backend.js';
import { hostKernel, type Kernel } from '../kernel/kernel.js';
import { type Engine, type EngineContext, type EnginePeers, type EngineRefusals, wantedLink } from './engine.js';
import type { WireguardPeer } from './peers.js';

/** The kernel, or the tool for it, has no WireGuard. */
export class NoKernelWireguardError extends TweedError {
  constructor(
    /** In words. */
    readonly reason: string,
  ) {
    super('WIREGUARD_NO_KERNEL', `${reason}; take -wireguard-engine user, or install what is missing`);
  }
}

export interface KernelEngineOptions {
  readonly context: EngineContext;
  readonly privateKey: PrivateKey;
  readonly txQueueLength: number;
  readonly kernel?: Kernel;
  readonly run?: Run;
}

/**
 * `wg` reads a configuration from files only. The standard input that Node gives a program is a socket, which nobody can
 * open by its name; a pipe of the shell's can be, and keeps the keys in memory. By /proc, since not every host has a /dev/stdin.
 */
const WG_FROM_INPUT = ['sh', '-c', 'cat | wg "$@" /proc/self/fd/0', 'wg'];

/** What `wg` was told of a peer. */
interface Told {
  readonly endpoint: string;
  readonly networks: string;
}

/** What `wg` said of a peer at the last look. */
interface Observed {
  readonly endpoint: string | null;
  readonly lastHandshake: number | null;
  readonly rxBytes: number;
  readonly txBytes: number;
}

/** The same with its networks, between blanks and in any order. */
interface Present extends Observed {
  readonly networks: string;
}

export class KernelEngine implements Engine {
  readonly name = 'kernel';
  /** The kernel forwards, and nothing of ours can fail for good. */
  readonly failed = new Promise<Error>(() => {});
  readonly #options: KernelEngineOptions;
  readonly #device: string;
  readonly #kernel: Kernel;
  readonly #run: Run;
  #link: WantedLink | null = null;
  #peers: readonly WireguardPeer[] = [];
  /** By public key; null while the device is new. */
  #configured: ReadonlyMap<string, Told> | null = null;
  #observed: ReadonlyMap<string, Observed> = new Map();

  constructor(options: KernelEngineOptions) {
    this.#options = options;
    this.#device = options.context.device;
    this.#kernel = options.kernel ?? hostKernel;
    this.#run = options.run ?? exec;
  }

  /** @throws NoKernelWireguardError with nothing left behind */
  async start(subnets: OverlayNetworks, peers: EnginePeers): Promise<EngineRefusals> {
    const { context, txQueueLength } = this.#options;
    await this.#make();
    this.#link = wantedLink(context, subnets, txQueueLength);
    try {
      const { refused } = await this.setPeers(peers);
      return refused;
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Makes the device anew: one that was there had another key, or another overlay's addresses. */
  async #make(): Promise<void> {
    await this.#run(['wg', '--version']).catch((error) => {
      throw new NoKernelWireguardError(`wg (package wireguard-tools) cannot be run: ${messageOf(error)}`);
    });
    const { ip } = this.#kernel;
    await ip.run('link', 'del', this.#device).catch(() => {}); // as a rule there is none
    await ip.run('link', 'add', this.#device, 'type', 'wireguard').catch((error) => {
      throw new NoKernelWireguardError(`the kernel makes no WireGuard device (${messageOf(error)})`);
    });
    this.#configured = null;
  }

  async setPeers({ peers }: EnginePeers): ReturnType<Engine['setPeers']> {
    const link = this.#link;
    if (link === null) return { mended: [], refused: new Map() };
    const mended: string[] = [];
    const wanted = new Map(peers.map((peer) => [peer.name, toldOf(peer)]));
    const present = await this.#read().catch(async (error: unknown) => {
      if ((await readLink(this.#device, this.#kernel.ip)) !== null) throw error;
      await this.#make();
      mended.push(`made ${this.#device} anew`);
      return new Map<string, Present>();
    });
    const asTold = this.#configured !== null && sameTold(wanted, this.#configured);
    const complete = sameNetworks(wanted, present);
    if (!asTold || !complete) await this.#configure(peers, wanted, present);
    if (asTold && !complete) mended.push(`gave ${this.#device} its ${plural(peers.length, 'peer')}`);
    mended.push(...(await ensureLink(link, this.#kernel.ip)));
    this.#observed = present;
    this.#peers = peers;
    return { mended, refused: new Map() };
  }

  /**
   * `syncconf` leaves the sessions of peers alone that stay. A peer that has been told of keeps the endpoint that it speaks
   * from, unless its lease says something new.
   */
  async #configure(
    peers: readonly WireguardPeer[],
    wanted: ReadonlyMap<string, Told>,
    present: ReadonlyMap<string, Present>,
  ): Promise<void> {
    const roams = ({ name }: WireguardPeer) =>
      present.has(name) && this.#configured?.get(name)?.endpoint === wanted.get(name)?.endpoint;
    const { privateKey, context } = this.#options;
    const isNew = this.#configured === null;
    // whatever is usual for new devices
    if (isNew && context.networks.ipv6 !== null) {
      await this.#kernel.setSwitch(`net/ipv6/conf/${this.#device}/disable_ipv6`, '0');
    }
    const input = configurationText(privateKey, context, peers, roams);
    const verb = isNew ? 'setconf' : 'syncconf';
    await this.#run([...WG_FROM_INPUT, verb, this.#device], { input });
    this.#configured = wanted;
  }

  /** By public key. Asks for no secrets: `dump` would tell them. */
  async #read(): Promise<ReadonlyMap<string, Present>> {
    const ask = async (what: string): Promise<Map<string, string[]>> => {
      const { stdout }: ExecResult = await this.#run(['wg', 'show', this.#device, what]);
      const rows = stdout.split('\n').filter((line) => line !== '');
      return new Map(rows.map((line) => line.split('\t')).map(([key, ...values]) => [key, values]));
    };
    const [networks, endpoints, handshakes, transfers] = await Promise.all(
      ['allowed-ips', 'endpoints', 'latest-handshakes', 'transfer'].map(ask),
    );
    return new Map(
      [...networks].map(([key, [text = '']]) => {
        const endpoint = endpoints.get(key)?.[0] ?? '(none)';
        const seconds = Number(handshakes.get(key)?.[0] ?? 0);
        const [received = '0', sent = '0'] = transfers.get(key) ?? [];
        const observed = {
          networks: text,
          endpoint: endpoint === '(none)' ? null : endpoint,
          lastHandshake: seconds === 0 ? null : seconds * 1000,
          rxBytes: Number(received),
          txBytes: Number(sent),
        };
        return [key, observed];
      }),
    );
  }

  status(): ReturnType<Engine['status']> {
    const device = deviceTotals(this.#device, this.#kernel.readStatistics('dev'));
    return {
      peers: new Map(this.#peers.map((peer) => [peer.name, this.#statusOf(peer)])),
      features: [],
      totals: {
        tx_packets: device.txPackets,
        tx_bytes: device.txBytes,
        rx_packets: device.rxPackets,
        rx_bytes: device.rxBytes,
      },
      drops: {
        tx_dropped: device.txDrops,
        tx_errors: device.txErrors,
        rx_dropped: device.rxDrops,
        rx_errors: device.rxErrors,
      },
    };
  }

  #statusOf(peer: WireguardPeer): PeerStatus {
    const seen = this.#observed.get(peer.name);
    return {
      ...peerNames({ ...peer, attributes: peer }),
      txPackets: null,
      txBytes: seen?.txBytes ?? 0,
      rxPackets: null,
      rxBytes: seen?.rxBytes ?? 0,
      lastReceived: null,
      endpoint: seen?.endpoint ?? null,
      lastHandshake: seen?.lastHandshake ?? null,
    };
  }

  stuckFor(): number {
    return 0;
  }

  async stop(): Promise<void> {
    if (this.#link === null) return;
    this.#link = null;
    await this.#kernel.ip.run('link', 'del', this.#device).catch(() => {}); // somebody else may have removed it
  }
}

function toldOf(peer: WireguardPeer): Told {
  return { endpoint: endpointOf(peer), networks: sorted(networksOf(peer)) };
}

function sameTold(wanted: ReadonlyMap<string, Told>, configured: ReadonlyMap<string, Told>): boolean {
  return (
    wanted.size === configured.size &&
    [...wanted].every(([name, { endpoint, networks }]) => {
      const before = configured.get(name);
      return before?.endpoint === endpoint && before.networks === networks;
    })
  );
}

function sameNetworks(wanted: ReadonlyMap<string, Told>, present: ReadonlyMap<string, Present>): boolean {
  return (
    present.size === wanted.size &&
    [...wanted].every(([name, { networks }]) => sorted(present.get(name)?.networks.split(' ') ?? []) === networks)
  );
}

function sorted(networks: readonly string[]): string {
  return [...networks].sort().join();
}

function endpointOf({ address, port }: WireguardPeer): string {
  return formatEndpoint(address, port);
}

function networksOf(peer: WireguardPeer): string[] {
  return halvesOf(peer).map(formatAnyPrefix);
}

/**
 * As `wg setconf` reads it (wg(8), configuration file format). Holds secrets.
 *
 * @param keepsEndpoint of which peers nothing is said of where they are
 */
export function configurationText(
  privateKey: PrivateKey,
  { port, presharedKey, keepalive }: EngineContext,
  peers: readonly WireguardPeer[],
  keepsEndpoint: (peer: WireguardPeer) => boolean,
): string {
  const lines = ['[Interface]', `PrivateKey = ${formatKey(privateKey.secret.bytes)}`, `ListenPort = ${port}`];
  for (const peer of peers) {
    lines.push('[Peer]', `PublicKey = ${peer.name}`);
    if (presharedKey !== null) lines.push(`PresharedKey = ${formatKey(presharedKey)}`);
    if (!keepsEndpoint(peer)) lines.push(`Endpoint = ${endpointOf(peer)}`);
    lines.push(`AllowedIPs = ${networksOf(peer).join(', ')}`);
    if (keepalive > 0) lines.push(`PersistentKeepalive = ${keepalive}`);
  }
  return `${lines.join('\n')}\n`;
}
