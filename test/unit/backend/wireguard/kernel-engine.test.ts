import { describe, expect, it } from 'vitest';
import { kernelThrough } from '../../../../src/backend/kernel/kernel.js';
import { KernelEngine, NoKernelWireguardError } from '../../../../src/backend/wireguard/kernel-engine.js';
import type { WireguardPeer } from '../../../../src/backend/wireguard/peers.js';
import { ExecError, type ExecOptions, type ExecResult } from '../../../../src/base/exec.js';
import { parseIpv4, parsePrefix } from '../../../../src/base/ipv4.js';
import { formatKey, PrivateKey } from '../../../../src/wireguard/keys.js';

const NETWORK = parsePrefix('10.5.0.0/16')!;
const SUBNET = parsePrefix('10.5.1.0/24')!;
const secret = formatKey(new Uint8Array(32).fill(64));
const shared = new Uint8Array(32).fill(7);

function peer(n: number, port = 51820): WireguardPeer {
  const publicKey = new Uint8Array(32).fill(n);
  const publicIp = parseIpv4(`192.0.2.${n}`)!;
  return { subnet: parsePrefix(`10.5.${n}.0/24`)!, publicIp, port, publicKey, name: formatKey(publicKey) };
}

/** A host with `ip` and `wg`, as far as the engine uses them. */
class ScriptedHost {
  readonly commands: string[] = [];
  readonly inputs: string[] = [];
  device: { up: boolean; address: boolean; route: boolean; networks: Map<string, string> } | null = null;
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
    if (text === 'ip link del flannel-wg') {
      if (this.device === null) return { refusal: 'Cannot find device "flannel-wg"' };
      this.device = null;
    }
    if (text === 'ip link add flannel-wg type wireguard') {
      if (!this.hasKernel) return { refusal: 'Error: Unknown device type.' };
      this.device = { up: false, address: false, route: false, networks: new Map() };
    }
    if (text.includes('-batch') && this.device !== null) {
      this.inputs.push(input);
      if (input.includes('address add')) this.device.address = true;
      if (input.includes('link set dev flannel-wg up')) this.device.up = true;
      if (input.includes('route add') || input.includes('route replace')) this.device.route = true;
    }
    if (text.includes('address show dev flannel-wg')) return JSON.stringify(this.#link());
    if (text.includes('route show')) return JSON.stringify(this.#routes());
    return '';
  }

  #link() {
    if (this.device === null) return [];
    const addresses = [{ family: 'inet', local: '10.5.1.0', prefixlen: 32, scope: 'global' }];
    return [
      {
        ifindex: 7,
        ifname: 'flannel-wg',
        flags: this.device.up ? ['UP'] : [],
        mtu: 1420,
        txqlen: 1000,
        linkinfo: { info_kind: 'wireguard' },
        addr_info: this.device.address ? addresses : [],
      },
    ];
  }

  #routes() {
    return this.device?.route ? [{ dst: '10.5.0.0/16', dev: 'flannel-wg', scope: 'link', flags: [] }] : [];
  }

  #wg(words: readonly string[], input: string): string | { refusal: string } {
    if (!this.hasTool) return { refusal: 'wg is not installed; install it and try again' };
    if (this.device === null && words[0] !== '--version') return { refusal: 'no such device' };
    if (words[0] === 'setconf' || words[0] === 'syncconf') {
      this.inputs.push(input);
      const pairs = [...input.matchAll(/PublicKey = (\S+)[^[]*AllowedIPs = (\S+)/g)];
      this.device!.networks = new Map(pairs.map(([, key, network]) => [key as string, network as string]));
    }
    const lines = (value: string) => [...this.device!.networks.keys()].map((key) => `${key}\t${value}\n`).join('');
    switch (words[2]) {
      case 'allowed-ips':
        return [...this.device!.networks].map(([key, network]) => `${key}\t${network}\n`).join('');
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

  engine(keepalive = 25): KernelEngine {
    return new KernelEngine({
      network: NETWORK,
      context: { mtu: 1420, port: 51820, presharedKey: shared, keepalive },
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
    expect(host.device).toMatchObject({ up: true, address: true, route: true });
    expect(host.inputs[0]).toBe(
      `[Interface]\nPrivateKey = ${secret}\nListenPort = 51820\n` +
        `[Peer]\nPublicKey = ${peer(2).name}\nPresharedKey = ${formatKey(shared)}\n` +
        'Endpoint = 192.0.2.2:51820\nAllowedIPs = 10.5.2.0/24\nPersistentKeepalive = 25\n' +
        `[Peer]\nPublicKey = ${peer(3).name}\nPresharedKey = ${formatKey(shared)}\n` +
        'Endpoint = 192.0.2.3:7\nAllowedIPs = 10.5.3.0/24\nPersistentKeepalive = 25\n',
    );
    expect(host.commands).toContain('wg setconf flannel-wg /dev/stdin');
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
    expect(host.commands.filter((text) => text.includes('conf'))).toEqual(['wg syncconf flannel-wg /dev/stdin']);
    expect([...host.device!.networks.values()]).toEqual(['10.5.2.0/24', '10.5.4.0/24']);
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
    expect(engine.status().peers).toEqual([
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
    ]);
  });

  it('a device of that name is made anew, and gone after the stop', async () => {
    const host = new ScriptedHost();
    host.device = { up: true, address: false, route: false, networks: new Map([['old', '10.5.9.0/24']]) };
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
