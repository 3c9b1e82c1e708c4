import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { TweedError } from '../../../src/base/errors.js';
import { fetchStatus } from '../../../src/operator/status-client.js';
import { StateOutdatedError } from '../../../src/subnet/errors.js';
import { address, dualConfig, type FakeBackend, peer, prefix, World } from './fakes.js';

let world: World;
let stop: AbortController;

beforeEach(async () => {
  world = await World.create();
  stop = new AbortController();
});
afterEach(() => world.remove());

const happened = (event: string) =>
  vi.waitFor(() => expect(world.events).toContain(event), { timeout: 10_000, interval: 10 });
const told = (message: string) =>
  vi.waitFor(() => expect(world.messages).toContain(message), { timeout: 10_000, interval: 10 });

/** Starts a daemon, waits until it is ready, does something with it, stops it. */
async function whileReady(argv: string[], then: (daemon: ReturnType<World['daemon']>) => Promise<void>): Promise<void> {
  const daemon = world.daemon(...argv);
  const life = daemon.run(stop.signal);
  life.catch(() => {});
  await told('READY=1');
  await then(daemon);
  stop.abort();
  await life;
}

describe('the life of a daemon', () => {
  it('goes through its steps in order, and back', async () => {
    world.peers = [peer('10.5.8.0/24', '192.0.2.2')];
    await whileReady([], async () => {});
    expect(world.events).toEqual([
      'await config',
      'lock network 10.5.0.0/16',
      'lock device flannel0',
      'acquire lease',
      'backend start 10.5.7.0/24, peers 10.5.8.0/24',
      'follow',
      'rules applied',
      'subnet file 10.5.7.0/24 1472',
      'backend stop',
      'unlock network 10.5.0.0/16',
      'unlock device flannel0',
      'leases closed',
      'registry closed',
    ]);
    expect(world.messages).toContain('STATUS=10.5.7.0/24 of 10.5.0.0/16, 1 peer');
    expect(world.messages.at(-1)).toBe('STOPPING=1');
  });

  it('begins anew when it was begun with a configuration that is overtaken', async () => {
    await whileReady([], async () => {
      world.events.length = 0;
      world.leases[0]?.emit('lost', new StateOutdatedError({ subnet: prefix('10.5.7.0/24'), subnetV6: null }));
      await happened('rules applied');
    });
    expect(world.events.slice(0, 5)).toEqual([
      'backend stop',
      'unlock network 10.5.0.0/16',
      'unlock device flannel0',
      'leases closed',
      'await config',
    ]);
  });

  it('asks for the subnet that an earlier life had', async () => {
    world.former = prefix('10.5.77.0/24');
    await whileReady([], () => happened('backend start 10.5.77.0/24, peers none'));
  });

  it('gives the lease back when told to', async () => {
    await whileReady(['-release-on-exit'], async () => {});
    expect(world.events).toContain('lease of 192.0.2.1 released');
  });

  it('takes devices, routes and rules away on exit when it is asked to', async () => {
    await whileReady(['-clean-up-on-exit'], async () => {});
    const ends = world.events.slice(world.events.indexOf('backend clean-up'));
    expect(ends).toEqual([
      'backend clean-up',
      'rules removed',
      'unlock network 10.5.0.0/16',
      'unlock device flannel0',
      'leases closed',
      'registry closed',
    ]);
  });

  it('stops while it waits for the configuration', async () => {
    world.silent = true;
    const life = world.daemon().run(stop.signal);
    await happened('await config');
    stop.abort();
    await life;
    expect(world.events).not.toContain('acquire lease');
    expect(world.events.at(-1)).toBe('registry closed');
  });

  it('waits for another configuration when the backend finds fault with its part, but not for another backend', async () => {
    world.backendRefuses = new TweedError('CONFIG_INVALID', 'Backend.Port is 70000');
    const life = world.daemon().run(stop.signal);
    await happened('await config');
    world.backendRefuses = null;
    await told('READY=1');
    stop.abort();
    await life;
    world.backendRefuses = new TweedError('UNKNOWN_BACKEND', 'no backend "gce"');
    await expect(world.daemon().run(new AbortController().signal)).rejects.toThrow('no backend "gce"');
  });

  it('does nothing when it is stopped before it began', async () => {
    stop.abort();
    await world.daemon().run(stop.signal);
    expect(world.events).not.toContain('acquire lease');
  });

  it('tells through its socket what it waits for, then that it is ready', async () => {
    world.silent = true;
    const life = world.daemon().run(stop.signal);
    await told('STATUS=waiting for the network configuration');
    const waiting = { phase: 'waiting', ready: false, lease: null };
    await vi.waitFor(async () => expect(await fetchStatus(world.runDirectory)).toMatchObject(waiting), 10_000);
    world.speak();
    await told('READY=1');
    expect(await fetchStatus(world.runDirectory)).toMatchObject({
      phase: 'running',
      ready: true,
      network: '10.5.0.0/16',
      lease: { subnet: '10.5.7.0/24', publicIp: '192.0.2.1', fromCache: false },
      underlay: { interface: 'eth0', address: '192.0.2.1', mtu: 1500 },
    });
    stop.abort();
    await life;
  });

  it('tells what is amiss though it is ready', async () => {
    world.hasTwin = true;
    world.obstacles = ['forwarded packets are refused: by somebody; ask him'];
    const daemon = world.daemon('-etcd-endpoints=http://10.5.200.1:2379');
    const life = daemon.run(stop.signal);
    await told('READY=1');
    await vi.waitFor(() => expect(daemon.status().warnings).toHaveLength(3));
    expect(daemon.status().warnings).toEqual([
      expect.stringContaining('another host has the same public address'),
      expect.stringContaining('the overlay’s network 10.5.0.0/16 covers the way to the registry at http://10.5.200.1'),
      'forwarded packets are refused: by somebody; ask him',
    ]);
    stop.abort();
    await life;
  });

  it('stops forwarding and ends with the reason when the lease is lost', async () => {
    const life = world.daemon().run(stop.signal);
    await told('READY=1');
    world.leases[0]?.lose('another host holds it');
    await expect(life).rejects.toThrow('the lease of 10.5.7.0/24 is lost: another host holds it');
    expect(world.events.slice(-5)).toEqual([
      'backend stop',
      'unlock network 10.5.0.0/16',
      'unlock device flannel0',
      'leases closed',
      'registry closed',
    ]);
  });

  it('ends with the reason when forwarding fails', async () => {
    const life = world.daemon().run(stop.signal);
    await told('READY=1');
    world.backends[0]?.fail('the TUN device is gone');
    await expect(life).rejects.toThrow('forwarding stopped: the TUN device is gone');
    expect(world.events.at(-1)).toBe('registry closed');
  });

  it('ends with the reason when forwarding cannot begin', async () => {
    world.backendStartFails = 'no /dev/net/tun';
    await expect(world.daemon().run(stop.signal)).rejects.toThrow('no /dev/net/tun');
    expect(world.events).not.toContain('rules applied');
  });
});

describe('what forwards by itself', () => {
  it.each<[string, readonly string[], boolean]>([
    ['may go on after a daemon that is told to end', [], true],
    ['ends with one that gives its lease back', ['-release-on-exit'], false],
    ['ends with one that cleans up', ['-clean-up-on-exit'], false],
  ])('%s', async (_, argv, pinned) => {
    await whileReady([...argv], async () => {});
    expect(world.pinned).toBe(pinned);
  });

  it('ends with one that has to leave the overlay', async () => {
    const life = world.daemon().run(stop.signal);
    await told('READY=1');
    world.leases[0]?.lose('another host holds it');
    await expect(life).rejects.toThrow('is lost');
    expect(world.pinned).toBe(false);
  });

  it('ends where this process goes on without it', async () => {
    await whileReady([], async () => {
      world.leases[0]?.emit('lost', new StateOutdatedError({ subnet: prefix('10.5.7.0/24'), subnetV6: null }));
      await happened('backend stop');
      expect(world.pinned).toBe(false);
    });
  });

  it('is kept from then on at which it is there, until it is not', async () => {
    const kept = (name: string) => `FDSTORE=1\nFDNAME=${name}\nFDPOLL=0`;
    await whileReady([], async () => {
      const [backend] = world.backends as [FakeBackend];
      expect(world.messages).toContain(kept('tun'));
      backend.held.set('link,1', 9);
      await told(kept('link,1'));
      backend.held.delete('link,1');
      await told('FDSTOREREMOVE=1\nFDNAME=link,1');
    });
    expect(world.messages.filter((message) => message.includes('FDNAME=tun'))).toEqual([kept('tun')]);
  });
});

describe('what hangs', () => {
  it('delays no peer and no end, when it is the rules at the start', async () => {
    world.lockHeld = true;
    const life = world.daemon().run(stop.signal);
    await happened('rules wait for the lock');
    world.leases[0]?.setPeers([peer('10.5.8.0/24', '192.0.2.2')]);
    await happened('peers 10.5.8.0/24');
    stop.abort();
    await life;
    expect(world.events.slice(-5)).toEqual([
      'backend stop',
      'unlock network 10.5.0.0/16',
      'unlock device flannel0',
      'leases closed',
      'registry closed',
    ]);
  });

  it('delays no peer and no end, when it is the check of the rules', async () => {
    await whileReady(['-clean-up-on-exit'], async () => {
      world.lockHeld = true;
      await happened('rules wait for the lock');
      world.leases[0]?.setPeers([peer('10.5.8.0/24', '192.0.2.2')]);
      await happened('peers 10.5.8.0/24');
    });
    const ends = world.events.slice(world.events.indexOf('backend clean-up'));
    expect(ends).toEqual([
      'backend clean-up',
      'rules removed',
      'unlock network 10.5.0.0/16',
      'unlock device flannel0',
      'leases closed',
      'registry closed',
    ]);
  });

  it('keeps neither the process nor the registry, when it is the backend', async () => {
    await whileReady([], async () => {
      world.backendHangs = true;
      await happened('backend hangs');
    });
    expect(world.events.at(-1)).toBe('registry closed');
  });
});

describe('what is not vital', () => {
  it('may fail: the overlay comes up without rules, and has them once they work', async () => {
    world.rulesFail = 'iptables is not installed';
    await whileReady([], async (daemon) => {
      expect(daemon.status()).toMatchObject({ phase: 'running', ready: false });
      expect(daemon.status().warnings).toEqual(['setting up traffic rules: iptables is not installed']);
      expect(world.events).toContain('subnet file 10.5.7.0/24 1472');
      world.rulesFail = '';
      await happened('rules applied');
      await vi.waitFor(() => expect(daemon.status()).toMatchObject({ ready: true, warnings: [] }));
    });
  });

  it('may fail: it is ready only once the subnet file is written', async () => {
    world.subnetFileFails = 'read-only file system';
    await whileReady([], async (daemon) => {
      expect(daemon.status().ready).toBe(false);
      world.subnetFileFails = '';
      await happened('subnet file 10.5.7.0/24 1472');
      await vi.waitFor(() => expect(daemon.status().ready).toBe(true));
    });
  });

  it('may fail: a status socket that cannot be made', async () => {
    await whileReady(['-run-dir=/etc/hostname/tweed'], async (daemon) => expect(daemon.status().ready).toBe(true));
  });
});

describe('peers', () => {
  it('reach the backend as a whole, whatever came while it was busy in one piece', async () => {
    world.peers = [peer('10.5.8.0/24', '192.0.2.2'), peer('10.5.9.0/24', '192.0.2.3')];
    await whileReady([], async () => {
      world.events.length = 0;
      const setPeers = vi.spyOn(world.backends[0] as FakeBackend, 'setPeers');
      const all = Array.from({ length: 200 }, (_, host) => peer(`10.5.${host + 20}.0/24`, '192.0.2.9'));
      for (let count = 1; count <= all.length; count++) world.leases[0]?.setPeers(all.slice(0, count));
      await vi.waitFor(() => expect(world.host.peers.split(' ')).toHaveLength(200));
      expect(setPeers.mock.calls.length).toBeLessThanOrEqual(3);
    });
  });

  it('that are none are refused with a reason, which the status shows', async () => {
    world.peers = [
      peer('10.5.8.0/24', '192.0.2.2'),
      peer('10.5.9.0/24', '10.5.9.5'),
      peer('10.5.10.0/24', '127.0.0.1'),
    ];
    await whileReady([], async (daemon) => {
      expect(world.host.peers).toBe('10.5.8.0/24');
      expect(daemon.status().backend?.refused).toEqual([
        expect.objectContaining({ subnet: '10.5.9.0/24', reason: expect.stringContaining('lies inside the overlay') }),
        expect.objectContaining({ subnet: '10.5.10.0/24', reason: expect.stringContaining('loopback') }),
      ]);
    });
  });

  it('that nobody can make sense of cost that change and no more: it is counted, and the next one is taken', async () => {
    await whileReady([], async (daemon) => {
      world.leases[0]?.setPeers([null as never]);
      await vi.waitFor(() => expect(daemon.status().unforeseenErrors).toBeGreaterThan(0));
      world.leases[0]?.setPeers([peer('10.5.8.0/24', '192.0.2.2')]);
      await vi.waitFor(() => expect(world.host.peers).toBe('10.5.8.0/24'));
    });
  });

  it('are tried again after the backend failed with them', async () => {
    await whileReady([], async () => {
      world.backendFailsNow = 'no memory';
      world.leases[0]?.setPeers([peer('10.5.8.0/24', '192.0.2.2')]);
      await vi.waitFor(() => expect(world.host.peers).toBe('none'));
      world.backendFailsNow = '';
      await vi.waitFor(() => expect(world.host.peers).toBe('10.5.8.0/24'), { timeout: 5000 });
    });
  });
});

describe('reconciling', () => {
  it('counts what was put back', async () => {
    world.repairs.push('address of flannel0', 'route of flannel0');
    await whileReady([], (daemon) => vi.waitFor(() => expect(daemon.status().repairs).toBe(2), { timeout: 5000 }));
  });

  const anotherInterface = {
    name: 'eth1',
    index: 3,
    address: address('198.51.100.1'),
    prefixLength: 24,
    ipv6: null,
    mtu: 1400,
  };

  it('moves to another interface behind the same public address without asking the registry', async () => {
    world.peers = [peer('10.5.8.0/24', '192.0.2.2')];
    await whileReady([], async (daemon) => {
      world.events.length = 0;
      world.silent = true;
      world.moved = { ...world.underlay, underlay: anotherInterface };
      await happened('subnet file 10.5.7.0/24 1372');
      expect(world.events).toEqual([
        'announce 192.0.2.1',
        'backend stop',
        'backend start 10.5.7.0/24, peers 10.5.8.0/24',
        'subnet file 10.5.7.0/24 1372',
      ]);
      expect(daemon.status()).toMatchObject({ ready: true, underlay: { interface: 'eth1', mtu: 1400 } });
    });
  });

  it('writes the new MTU into the subnet file at once, not with the next look', async () => {
    const looks: (() => void)[] = [];
    const untilAborted = (signal: AbortSignal | undefined) =>
      new Promise<void>((resolve) => signal?.addEventListener('abort', () => resolve(), { once: true }));
    world.clock = {
      ...world.clock,
      sleep: (_milliseconds, signal) =>
        Promise.race([new Promise<void>((resolve) => looks.push(resolve)), untilAborted(signal)]),
    };
    await whileReady([], async () => {
      await vi.waitFor(() => expect(looks).toHaveLength(1));
      world.moved = { ...world.underlay, underlay: anotherInterface };
      world.backendStarts = new Promise((resolve) => setTimeout(resolve, 100)); // the rules are looked at meanwhile
      looks[0]?.();
      await happened('subnet file 10.5.7.0/24 1372');
      expect(looks.length).toBeLessThanOrEqual(2);
    });
  });

  it('tells containers of no IPv6 while the host carries none, keeps it all the same, and tells of it as soon as it does', async () => {
    world.config = dualConfig;
    const withMtu = (mtu: number) => ({ ...world.underlay, underlay: { ...world.underlay.underlay, mtu } });
    await whileReady([], async (daemon) => {
      expect(world.host.file).toBe('10.5.7.0/24 fd00:5:0:7::/64 1472');
      expect(daemon.status().warnings).toEqual([]);
      world.moved = withMtu(1300);
      await happened('subnet file 10.5.7.0/24 (keeps fd00:5:0:7::/64) 1272');
      await vi.waitFor(() => expect(daemon.status().ready).toBe(true));
      expect(daemon.status().warnings).toEqual(['fd00:5::/48 is not carried; raise the MTU']);
      expect(daemon.status().lease?.subnetV6).toBe('fd00:5:0:7::/64');
      world.moved = withMtu(1308);
      await happened('subnet file 10.5.7.0/24 fd00:5:0:7::/64 1280');
      expect(daemon.status().warnings).toEqual([]);
    });
  });

  it('writes the subnet file also where the MTU stays and only what is carried changes', async () => {
    world.config = dualConfig;
    await whileReady([], async (daemon) => {
      const carried = vi.spyOn(world.backends[0] as FakeBackend, 'notCarried', 'get');
      carried.mockReturnValue(new Map([[6, 'no IPv6 here']]));
      expect(daemon.status().ready).toBe(false);
      await happened('subnet file 10.5.7.0/24 (keeps fd00:5:0:7::/64) 1472');
      carried.mockReturnValue(new Map([[4, 'no IPv4 here']]));
      world.events.length = 0;
      await happened('subnet file 10.5.7.0/24 fd00:5:0:7::/64 1472');
    });
  });

  it('tries again when the backend cannot be started on the other interface', async () => {
    await whileReady([], async (daemon) => {
      world.backendStartFails = 'socket: EMFILE';
      world.moved = { ...world.underlay, underlay: anotherInterface };
      await vi.waitFor(() => expect(daemon.status().ready).toBe(false), { timeout: 5000 });
      world.backendStartFails = '';
      await happened('subnet file 10.5.7.0/24 1372');
      await vi.waitFor(() => expect(daemon.status().ready).toBe(true), { timeout: 5000 });
    });
  });

  it('keeps lease and network when its public address has changed, and announces the new one', async () => {
    world.peers = [peer('10.5.8.0/24', '192.0.2.2')];
    world.former = prefix('10.5.70.0/24');
    await whileReady([], async (daemon) => {
      world.events.length = 0;
      world.moved = { underlay: anotherInterface, publicIp: address('198.51.100.1'), publicIpv6: null, reason: 'test' };
      await happened('subnet file 10.5.70.0/24 1372');
      expect(world.events).toEqual([
        'announce 198.51.100.1',
        'backend stop',
        'backend start 10.5.70.0/24, peers 10.5.8.0/24',
        'subnet file 10.5.70.0/24 1372',
      ]);
      expect(daemon.status()).toMatchObject({
        phase: 'running',
        lease: { subnet: '10.5.70.0/24', publicIp: '198.51.100.1' },
      });
    });
  });

  it('moves to another interface though the rules hang', async () => {
    await whileReady([], async () => {
      world.lockHeld = true;
      await happened('rules wait for the lock');
      world.moved = { ...world.underlay, underlay: anotherInterface };
      await vi.waitFor(() => expect(world.host.device?.underlay).toBe('eth1'), { timeout: 5000 });
    });
  });

  it('stays where it is for as long as no backend takes the new interface', async () => {
    await whileReady([], async (daemon) => {
      world.events.length = 0;
      world.backendRefuses = new TweedError('HOST_GW_PUBLIC_IP', 'peers could not route to it');
      world.moved = { ...world.underlay, underlay: anotherInterface };
      world.repairs.push('the route');
      await vi.waitFor(() => expect(world.moved === null && world.repairs.length === 0).toBe(true), { timeout: 5000 });
      expect(world.host.device?.underlay).toBe('eth0');
      expect(daemon.status().warnings).toContain('following the underlay: peers could not route to it');
      world.backendRefuses = null;
      world.moved = { ...world.underlay, underlay: anotherInterface };
      await vi.waitFor(() => expect(world.host.device?.underlay).toBe('eth1'), { timeout: 5000 });
    });
  });

  it('is not ready any more once the lease has run out', async () => {
    world.leaseMs = 200;
    await whileReady([], (daemon) => vi.waitFor(() => expect(daemon.status().ready).toBe(false)));
  });
});
