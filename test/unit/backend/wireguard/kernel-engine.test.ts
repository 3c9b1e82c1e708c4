import { describe, expect, it } from 'vitest';
import { kernelThrough } from '../../../../src/backend/kernel/kernel.js';
import { KernelEngine, NoKernelWireguardError } from '../../../../src/backend/wireguard/kernel-engine.js';
import type { WireguardPeer } from '../../../../src/backend/wireguard/peers.js';
import { ExecError, type ExecOptions, type ExecResult } from '../../../../src/base/exec.js';
import { parseIpv4, parsePrefix } from '../../../../src/base/ipv4.js';
import { parseIpv6, parseIpv6Prefix } from '../../../../src/base/ipv6.js';
import type { OverlayNetworks } from '../../../../src/encap/forwarding/layout.js';
import { formatKey, PrivateKey } from '../../../../src/wireguard/keys.js';

const NETWORK = { ipv4: parsePrefix('10.5.0.0/16')!, ipv6: null };
const SUBNET = { ipv4: parsePrefix('10.5.1.0/24')!, ipv6: null };
const BOTH = { ipv4: NETWORK.ipv4, ipv6: parseIpv6Prefix('fd00:5::/48')! };
const secret = formatKey(new Uint8Array(32).fill(64));
const shared = new Uint8Array(32).fill(7);
const THROUGH_A_PIPE = (verb: string) => `sh -c cat | wg "$@" /proc/self/fd/0 wg ${verb} flannel-wg`;

function peer(n: number, port = 51820): WireguardPeer {
  const publicKey = new Uint8Array(32).fill(n);
  const publicIp = parseIpv4(`192.0.2.${n}`)!;
  return {
    subnet: parsePrefix(`10.5.${n}.0/24`)!,
    subnetV6: null,
    publicIp,
    publicIpv6: null,
    address: publicIp,
    port,
    publicKey,
    name: formatKey(publicKey),
  };
}

/** The same with IPv6, inside and outside. */
function peerV6(n: number, port = 51821): WireguardPeer {
  const publicIpv6 = parseIpv6(`2001:db8::${n}`)!;
  return { ...peer(n), subnetV6: parseIpv6Prefix(`fd00:5:0:${n}::/64`)!, publicIpv6, address: publicIpv6, port };
}

/** A host with `ip` and `wg`, as far as the engine uses them. */
class ScriptedHost {
  readonly commands: string[] = [];
  readonly inputs: string[] = [];
  device: { name: string; up: boolean; addresses: string[]; routes: string[]; networks: Map<string, string> } | null =
    null;
  hasKernel = true;
  hasTool = true;

  readonly run = async (argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> => {
    this.commands.push(argv.join(' '));
    const stdout = this.#answer(argv, options);
    if (typeof stdout !== 'string') throw new ExecError(argv, null, stdout.refusal);
    return { status: 0, stdout, stderr: '' };
  };

  #answer(argv: readonly string[], { input = '' }: ExecOptions): string | { refusal: string } {
    const text = argv.join(' ');
    if (argv[0] === 'wg') return this.#wg(argv.slice(1), input);
    // what wg reads comes by a pipe of the shell
    if (argv[0] === 'sh') return this.#wg(argv.slice(4), input);
    if (text.startsWith('ip link del ')) {
      if (this.device === null) return { refusal: `Cannot find device "${argv[3]}"` };
      this.device = null;
    }
    const [, name] = /^ip link add (\S+) type wireguard$/.exec(text) ?? [];
    if (name !== undefined) {
      if (!this.hasKernel) return { refusal: 'Error: Unknown device type.' };
      this.device = { name, up: false, addresses: [], routes: [], networks: new Map() };
    }
    if (text.includes('-batch') && this.device !== null) {
      this.inputs.push(input);
      for (const [, address] of input.matchAll(/address add (\S+)/g)) this.device.addresses.push(address as string);
      for (const [, route] of input.matchAll(/route add (\S+)/g)) this.device.routes.push(route as string);
      if (input.includes(`link set dev ${this.device.name} up`)) this.device.up = true;
    }
    if (text.includes('address show dev ')) {
      if (this.device === null) return { refusal: `Device "${argv.at(-1)}" does not exist.` };
      return JSON.stringify(this.#link());
    }
    if (text.includes('route show')) return JSON.stringify(this.#routes(text.includes(' -6 ')));
    return '';
  }

  #link() {
    if (this.device === null) return [];
    const { name, up, addresses } = this.device;
    return [
      {
        ifindex: 7,
        ifname: name,
        flags: up ? ['UP'] : [],
        mtu: 1420,
        txqlen: 1000,
        linkinfo: { info_kind: 'wireguard' },
        addr_info: addresses.map((text) => {
          const [local, length] = text.split('/');
          return { family: text.includes(':') ? 'inet6' : 'inet', local, prefixlen: Number(length), scope: 'global' };
        }),
      },
    ];
  }

  #routes(v6: boolean) {
    const { name = '', routes = [] } = this.device ?? {};
    return routes
      .filter((dst) => dst.includes(':') === v6)
      .map((dst) => ({ dst, dev: name, flags: [], ...(v6 ? { metric: 1024, protocol: '84' } : { scope: 'link' }) }));
  }

  #wg(words: readonly string[], input: string): string | { refusal: string } {
    if (!this.hasTool) return { refusal: 'wg is not installed; install it and try again' };
    if (this.device === null && words[0] !== '--version') return { refusal: 'no such device' };
    if (words[0] === 'setconf' || words[0] === 'syncconf') {
      this.inputs.push(input);
      const pairs = [...input.matchAll(/PublicKey = (\S+)[\s\S]*?AllowedIPs = (.+)/g)];
      this.device!.networks = new Map(pairs.map(([, key, network]) => [key as string, network as string]));
    }
    const lines = (value: string) => [...this.device!.networks.keys()].map((key) => `${key}\t${value}\n`).join('');
    switch (words[2]) {
      case 'allowed-ips':
        // in an order of its own
        return [...this.device!.networks]
          .map(([key, networks]) => `${key}\t${networks.split(', ').reverse().join(' ')}\n`)
          .join('');
      case 'endpoints':
        return lines('198.51.100.1:4500');
      case 'latest-handshakes':
        return lines('1700000000');
      case 'transfer':
        return lines('11\t22');
      default:
        return '';
    }
  }

  engine({ keepalive = 25, device = 'flannel-wg', networks = NETWORK as OverlayNetworks } = {}): KernelEngine {
    return new KernelEngine({
      context: { device, networks, mtu: 1420, port: 51820, presharedKey: shared, keepalive },
      privateKey: new PrivateKey(new Uint8Array(32).fill(64)),
      txQueueLength: 1000,
      kernel: kernelThrough(this.run as Parameters<typeof kernelThrough>[0], () => ''),
      run: this.run as Parameters<typeof kernelThrough>[0],
    });
  }
}

describe('the engine in the kernel', () => {
  it('makes the device, tells wg by its standard input, and no secret by an argument', async () => {
    const host = new ScriptedHost();
    await host.engine().start(SUBNET, { peers: [peer(2), peer(3, 7)], complete: true });
    expect(host.device).toMatchObject({ up: true, addresses: ['10.5.1.0/32'], routes: ['10.5.0.0/16'] });
    expect(host.inputs[0]).toBe(
      `[Interface]\nPrivateKey = ${secret}\nListenPort = 51820\n` +
        `[Peer]\nPublicKey = ${peer(2).name}\nPresharedKey = ${formatKey(shared)}\n` +
        'Endpoint = 192.0.2.2:51820\nAllowedIPs = 10.5.2.0/24\nPersistentKeepalive = 25\n' +
        `[Peer]\nPublicKey = ${peer(3).name}\nPresharedKey = ${formatKey(shared)}\n` +
        'Endpoint = 192.0.2.3:7\nAllowedIPs = 10.5.3.0/24\nPersistentKeepalive = 25\n',
    );
    expect(host.commands).toContain(THROUGH_A_PIPE('setconf'));
    expect(host.commands.join('\n')).not.toContain(secret);
    expect(host.commands.join('\n')).not.toContain(formatKey(shared));
    expect(host.commands.join('\n')).not.toContain('dump');
  });

  it('peers that stay keep their sessions; what is as it should be is left alone', async () => {
    const host = new ScriptedHost();
    const engine = host.engine();
    await engine.start(SUBNET, { peers: [peer(2)], complete: true });
    host.commands.length = 0;
    expect(await engine.setPeers({ peers: [peer(2)], complete: true })).toEqual({ mended: [], refused: new Map() });
    expect(host.commands.filter((text) => text.includes('conf'))).toEqual([]);
    await engine.setPeers({ peers: [peer(2), peer(4)], complete: true });
    expect(host.commands.filter((text) => text.includes('conf'))).toEqual([THROUGH_A_PIPE('syncconf')]);
    expect([...host.device!.networks.values()]).toEqual(['10.5.2.0/24', '10.5.4.0/24']);
  });

  it('a peer that speaks from elsewhere is followed until its lease says something new', async () => {
    const host = new ScriptedHost();
    const engine = host.engine();
    const endpointsTold = async (...peers: WireguardPeer[]) => {
      host.inputs.length = 0;
      await engine.setPeers({ peers, complete: true });
      return [...host.inputs.join('').matchAll(/Endpoint = (.*)/g)].map(([, endpoint]) => endpoint);
    };
    await engine.start(SUBNET, { peers: [peer(2)], complete: true });
    expect(await endpointsTold(peer(2), peer(3))).toEqual(['192.0.2.3:51820']);
    expect(await endpointsTold(peer(2, 9), peer(3))).toEqual(['192.0.2.2:9']);
    host.device?.networks.delete(peer(3).name);
    expect(await endpointsTold(peer(2, 9), peer(3))).toEqual(['192.0.2.3:51820']);
  });

  it('a device that somebody removed is made again, with all its peers', async () => {
    const host = new ScriptedHost();
    const engine = host.engine();
    await engine.start(SUBNET, { peers: [peer(2)], complete: true });
    host.device = null;
    const { mended } = await engine.setPeers({ peers: [peer(2)], complete: true });
    expect(mended).toContain('made flannel-wg anew');
    expect(host.device).toMatchObject({ up: true, addresses: ['10.5.1.0/32'], routes: ['10.5.0.0/16'] });
    expect(host.inputs.join('')).toContain(`PublicKey = ${peer(2).name}\n`);
    expect(host.inputs.join('')).toContain('Endpoint = 192.0.2.2:51820\n');
  });

  it('peers that somebody took away are given back', async () => {
    const host = new ScriptedHost();
    const engine = host.engine();
    await engine.start(SUBNET, { peers: [peer(2)], complete: true });
    host.device!.networks.clear();
    const { mended } = await engine.setPeers({ peers: [peer(2)], complete: true });
    expect(mended).toEqual(['gave flannel-wg its 1 peer']);
    expect([...host.device!.networks.values()]).toEqual(['10.5.2.0/24']);
  });

  it('the status has what wg says of each peer', async () => {
    const host = new ScriptedHost();
    const engine = host.engine();
    await engine.start(SUBNET, { peers: [peer(2)], complete: true });
    await engine.setPeers({ peers: [peer(2)], complete: true });
    expect([...engine.status().peers]).toEqual([
      [
        peer(2).name,
        {
          subnet: '10.5.2.0/24',
          subnetV6: null,
          publicIp: '192.0.2.2',
          publicIpv6: null,
          txPackets: null,
          txBytes: 22,
          rxPackets: null,
          rxBytes: 11,
          lastReceived: null,
          endpoint: '198.51.100.1:4500',
          lastHandshake: 1_700_000_000_000,
        },
      ],
    ]);
  });

  it.each([
    [
      'one of its own',
      'flannel-wg-v6',
      { ipv4: null, ipv6: BOTH.ipv6 },
      { ...peerV6(2), subnet: null },
      { addresses: ['fd00:5:0:1::/128'], routes: ['fd00:5::/48'] },
      'fd00:5:0:2::/64',
      'fd00:5:0:2::/64',
    ],
    [
      'the one for both families',
      'flannel-wg',
      BOTH,
      peerV6(2),
      { addresses: ['10.5.1.0/32', 'fd00:5:0:1::/128'], routes: ['10.5.0.0/16', 'fd00:5::/48'] },
      '10.5.2.0/24, fd00:5:0:2::/64',
      '10.5.2.0/24',
    ],
  ] as const)('IPv6 by %s: addresses, routes, networks and endpoints of the family', async (...args) => {
    const [, device, networks, known, expected, allowed, called] = args;
    const host = new ScriptedHost();
    const engine = host.engine({ device, networks });
    const subnets = { ipv4: networks.ipv4 && SUBNET.ipv4, ipv6: parseIpv6Prefix('fd00:5:0:1::/64') };
    await engine.start(subnets, { peers: [known], complete: true });
    expect(host.commands).toContain(`tee /proc/sys/net/ipv6/conf/${device}/disable_ipv6`);
    expect(host.device).toMatchObject({ name: device, up: true, ...expected });
    expect(host.inputs.find((text) => text.includes('[Peer]'))).toContain(
      `Endpoint = [2001:db8::2]:51821\nAllowedIPs = ${allowed}\n`,
    );
    // whatever the order in which wg names the networks, nothing is amiss
    expect(await engine.setPeers({ peers: [known], complete: true })).toMatchObject({ mended: [] });
    expect(engine.status().peers.get(known.name)).toMatchObject({ subnet: called, subnetV6: 'fd00:5:0:2::/64' });
    host.device!.networks.set(known.name, '10.5.2.0/24, fd00:5:0:9::/64');
    expect(await engine.setPeers({ peers: [known], complete: true })).toMatchObject({
      mended: [`gave ${device} its 1 peer`],
    });
    await engine.stop();
    expect(host.device).toBeNull();
  });

  it('a device of that name is made anew, and gone after the stop', async () => {
    const host = new ScriptedHost();
    host.device = {
      name: 'flannel-wg',
      up: true,
      addresses: [],
      routes: [],
      networks: new Map([['old', '10.5.9.0/24']]),
    };
    const engine = host.engine();
    await engine.start(SUBNET, { peers: [], complete: true });
    expect(host.device.networks.size).toBe(0);
    await engine.stop();
    expect(host.device).toBeNull();
    await engine.stop();
  });

  it.each([
    ['the kernel has none', { hasKernel: false }, /the kernel makes no WireGuard device.*Unknown device type/],
    ['wg is not there', { hasTool: false }, /wg \(package wireguard-tools\) cannot be run/],
  ])('%s: it says so and leaves nothing', async (_name, lacks, reason) => {
    const host = Object.assign(new ScriptedHost(), lacks);
    const error = await host
      .engine()
      .start(SUBNET, { peers: [], complete: true })
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(NoKernelWireguardError);
    expect((error as NoKernelWireguardError).reason).toMatch(reason);
    expect(host.device).toBeNull();
  });
});
