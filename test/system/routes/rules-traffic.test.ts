import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { patient } from '../../../src/lab/patience.js';
import type { TrafficRules } from '../../../src/routes/rules/rules.js';
import { createTrafficRules } from '../../../src/routes/rules/traffic-rules.js';
import { families } from '../../support/families.js';
import { makeNamespace, type TestNamespace, unusableIptables } from './namespace.js';

/** Seconds after which an answer that is not expected would have come; one that is gets more. */
const SOON = 2;

/*
 *   c1 10.5.8.2 ── h1 192.0.2.1 ────── 192.0.2.2 h2 ── 10.5.9.2 c2
 *                    203.0.113.1          198.51.100.2
 *                         │                    │
 *                    203.0.113.9   world  198.51.100.9     (knows the way to both containers through h1)
 *
 * Host routes stand in for the overlay. Both hosts drop forwarded packets unless a rule accepts them, in the mode
 * where our rules can change that.
 */
const modes = [
  { mode: 'iptables', iptables: 'iptables-nft' },
  { mode: 'iptables', iptables: 'iptables-legacy' },
  { mode: 'nftables', iptables: 'iptables-nft' },
] as const;

const tested = await Promise.all(modes.map(async (one) => ({ ...one, reason: await unusableIptables(one.iptables) })));

describe.each(families)('IPv$family', ({ family, say, prefix }) => {
  const names = ['c1', 'h1', 'h2', 'c2', 'world'] as const;
  type Name = (typeof names)[number];
  let hosts: Record<Name, TestNamespace>;
  const servers: ChildProcess[] = [];

  const setup: Record<Name, readonly string[]> = {
    c1: [say('address add 10.5.8.2/24 dev eth0'), say('route add default via 10.5.8.1')],
    h1: [
      say('address add 10.5.8.1/24 dev c1'),
      say('address add 192.0.2.1/24 dev h2'),
      say('address add 203.0.113.1/24 dev world'),
      say('route add 10.5.9.0/24 via 192.0.2.2'),
    ],
    h2: [
      say('address add 10.5.9.1/24 dev c2'),
      say('address add 192.0.2.2/24 dev h1'),
      say('route add 10.5.8.0/24 via 192.0.2.1'),
      say('address add 198.51.100.2/24 dev world'),
    ],
    c2: [say('address add 10.5.9.2/24 dev eth0'), say('route add default via 10.5.9.1')],
    world: [
      say('address add 203.0.113.9/24 dev eth0'),
      say('address add 198.51.100.9/24 dev eth1'),
      say('route add 10.5.0.0/16 via 203.0.113.1'),
    ],
  };

  beforeAll(async () => {
    const made = await Promise.all(names.map(async (name) => [name, await makeNamespace()] as const));
    hosts = Object.fromEntries(made) as Record<Name, TestNamespace>;
    const cables: readonly (readonly [Name, string, Name, string])[] = [
      ['c1', 'eth0', 'h1', 'c1'],
      ['h1', 'h2', 'h2', 'h1'],
      ['h2', 'c2', 'c2', 'eth0'],
      ['world', 'eth0', 'h1', 'world'],
      ['world', 'eth1', 'h2', 'world'],
    ];
    for (const [left, leftEnd, right, rightEnd] of cables) {
      const peer = ['peer', 'name', rightEnd, 'netns', hosts[right].name];
      await hosts[left].run(['ip', 'link', 'add', leftEnd, 'type', 'veth', ...peer]);
      await hosts[left].run(['ip', 'link', 'set', leftEnd, 'up']);
      await hosts[right].run(['ip', 'link', 'set', rightEnd, 'up']);
    }
    for (const name of names) await hosts[name].run(['ip', '-batch', '-'], { input: setup[name].join('\n') });
    for (const name of ['h1', 'h2'] as const)
      await hosts[name].run([
        'sysctl',
        '-qw',
        family === 4 ? 'net.ipv4.ip_forward=1' : 'net.ipv6.conf.all.forwarding=1',
      ]);
    for (const name of ['c1', 'c2', 'world'] as const) {
      // Tells every caller the address it came from.
      const any = family === 4 ? '0.0.0.0' : '::';
      const script = `require('net').createServer((s) => s.end(s.remoteAddress)).listen(9000, '${any}', () => console.log('up'))`;
      const server = spawn('ip', ['netns', 'exec', hosts[name].name, process.execPath, '-e', script]);
      servers.push(server);
      await once(server.stdout, 'data');
    }
  });

  afterAll(async () => {
    for (const server of servers) {
      server.kill();
      if (server.exitCode === null && server.signalCode === null) await once(server, 'exit');
    }
    for (const name of names) await hosts[name].remove();
  });

  /** The address from which `to` sees a connection of `from`; `nothing` when none comes about. */
  async function seen(from: Name, to: string, seconds = 15): Promise<string> {
    const script = `exec 3</dev/tcp/${to}/9000 && cat <&3`;
    const { stdout } = await hosts[from].run(['timeout', String(patient(seconds)), 'bash', '-c', script], {
      tolerate: true,
    });
    return stdout || 'nothing';
  }

  describe.each(tested)('$mode ($iptables)', ({ mode, iptables, reason }) => {
    if (reason !== null) {
      it.skip(reason, () => {});
      return;
    }

    const tool = family === 4 ? iptables : iptables.replace('ip', 'ip6');
    const rules: TrafficRules[] = [];
    // Accepting in a table of its own cannot undo what the policy of another table drops.
    const policies = mode === 'iptables' ? (['h1', 'h2'] as const) : [];

    beforeAll(async () => {
      for (const host of policies) await hosts[host].run([tool, '-P', 'FORWARD', 'DROP']);
    });
    afterAll(async () => {
      for (const one of rules) await one.cleanUp();
      for (const host of policies) await hosts[host].run([tool, '-P', 'FORWARD', 'ACCEPT']);
    });

    it('without rules nothing is masqueraded, or forwarded', async () => {
      if (mode === 'iptables') expect(await seen('c1', say('203.0.113.9'), SOON)).toBe('nothing');
      else expect(await seen('c1', say('203.0.113.9'))).toBe(say('10.5.8.2'));
    });

    it('with rules', async () => {
      for (const [host, subnet] of [
        ['h1', say('10.5.8.0/24')],
        ['h2', say('10.5.9.0/24')],
      ] as const) {
        const network = prefix('10.5.0.0/16');
        const own = prefix(subnet);
        const options = { network, subnet: own, masquerade: true, randomFully: true, forward: true };
        rules.push(createTrafficRules(mode, options, { run: hosts[host].run, iptables }));
      }
      for (const one of rules) await one.apply();
      // A container is known to the world by its host's address on the way there.
      expect(await seen('c1', say('203.0.113.9'))).toBe(say('203.0.113.1'));
      expect(await seen('c2', say('198.51.100.9'))).toBe(say('198.51.100.2'));
      // Containers know each other by their own addresses.
      expect(await seen('c1', say('10.5.9.2'))).toBe(say('10.5.8.2'));
      expect(await seen('c2', say('10.5.8.2'))).toBe(say('10.5.9.2'));
      // A host's own containers see who calls from the world.
      expect(await seen('world', say('10.5.8.2'))).toBe(say('203.0.113.9'));
      // What the world sends to another host's containers comes back the way it went. flannel's nftables mode keeps
      // the address here, since its rule for this can never match.
      expect(await seen('world', say('10.5.9.2'))).toBe(say('192.0.2.1'));
    });

    it('what Kubernetes marks is left to Kubernetes', async () => {
      await hosts.h1.run(['nft', '-f', '-'], {
        input: say(
          'table ip marks { chain c { type filter hook prerouting priority mangle; ip daddr 203.0.113.9 meta mark set 0x4000; }; }',
        ),
      });
      expect(await seen('c1', say('203.0.113.9'))).toBe(say('10.5.8.2'));
      await hosts.h1.run(['nft', 'delete', 'table', family === 4 ? 'ip' : 'ip6', 'marks']);
      expect(await seen('c1', say('203.0.113.9'))).toBe(say('203.0.113.1'));
    });

    it('is put right after another program flushed everything', async () => {
      const program = mode === 'iptables' ? tool : 'nft';
      for (const words of program === 'nft' ? [['flush', 'ruleset']] : [['-F'], ['-t', 'nat', '-F']]) {
        await hosts.h1.run([program, ...words]);
      }
      expect(await seen('c1', say('203.0.113.9'), SOON)).not.toBe(say('203.0.113.1'));
      expect(((await rules[0]?.check()) ?? []).length).toBeGreaterThan(0);
      expect(await seen('c1', say('203.0.113.9'))).toBe(say('203.0.113.1'));
    });
  });
});
