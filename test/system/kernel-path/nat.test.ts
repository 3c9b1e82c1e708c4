/**
 * Flows whose addresses this host translates, under every setting: what goes straight to a container passes no translation, so
 * their answers must not go that way, while all others may.
 */
import { once } from 'node:events';
import { Socket as TcpSocket } from 'node:net';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { exec } from '../../../src/base/exec.js';
import { formatIpv4 } from '../../../src/base/ipv4.js';
import { address } from '../datapath/support/host.js';
import type { Namespace } from '../datapath/support/namespace.js';
import { useSite } from '../datapath/support/site.js';
import { AF_INET, openSocket, SOCK_STREAM, Udp } from '../datapath/support/sockets.js';
import { type End, file, ping, sendFile } from '../datapath/support/transfer.js';
import { until } from '../datapath/support/until.js';
import { carriedByKernel, expectInForce } from './support/by.js';
import { expectNoLeftovers } from './support/leftovers.js';

const SERVICE = address('10.96.0.10');
const OUTSIDE = address('192.168.77.250');
const MIB = 1 << 20;

const site = useSite();
beforeAll(async () => {
  await site().switch.ip('address add 192.168.77.250/24 dev br0');
});
afterEach(async () => {
  const there = site();
  await there.stop();
  for (const { namespace } of there.hosts) await namespace.run('nft', 'flush', 'ruleset');
  await expectNoLeftovers(there.hosts);
});

/** Rules of a table of type nat. */
async function translate(namespace: Namespace, chain: 'prerouting' | 'postrouting', rule: string): Promise<void> {
  const hook = `type nat hook ${chain} priority ${chain === 'prerouting' ? -100 : 100};`;
  await nft(namespace, `table ip t {\nchain ${chain} {\n${hook}\n${rule}\n}\n}\n`);
}

async function nft(namespace: Namespace, input: string): Promise<void> {
  await namespace.enter(() => exec(['nft', '-f', '-'], { input }));
}

/** The error that a connection ends with before it has come about. */
async function refusal(from: End, to: End<number>): Promise<string> {
  const socket = new TcpSocket({ fd: openSocket(from.namespace, AF_INET, SOCK_STREAM) });
  const failed = once(socket, 'error');
  socket.connect({ host: formatIpv4(to.address), port: 9 });
  const [error] = (await failed) as [NodeJS.ErrnoException];
  return error.code ?? '';
}

/** Asks by UDP again and again from one socket, which takes answers from nobody but whom it asked. */
async function ask(from: End, to: End, seenFrom: string | null): Promise<void> {
  const server = new Udp(to.namespace);
  const client = new Udp(from.namespace);
  client.connect(to.address, server.port);
  for (let round = 0; round < 30; round++) {
    const question = Buffer.from(`question ${round} of ${client.port}`);
    client.write(question);
    await until('the question arrives and is answered', () => {
      for (const { data, address: asker, port } of server.receive()) {
        if (seenFrom !== null) expect(asker).toBe(seenFrom);
        server.send(data, address(asker), port);
      }
      return client.receive().some(({ data }) => data.equals(question));
    });
  }
  server.close();
  client.close();
}

async function talk(from: End, to: End, seenFrom: string | null = null): Promise<void> {
  await ask(from, to, seenFrom);
  await sendFile(from, to, file(MIB, 1));
  await sendFile(from, to, file(MIB, 2));
}

describe.each(['off', 'route', 'direct'] as const)('with -kernel-path=%s', (kernelPath) => {
  const start = async () => {
    const there = site();
    await there.start({ kernelPath });
    await expectInForce(there.hosts, kernelPath);
    return { there, one: there.host(1), two: there.host(2) };
  };
  /** Containers talk as if there were no rules, most of it by the kernel path. */
  const plainly = async () => {
    const [one, two] = [site().host(1), site().host(2)];
    const before = await carriedByKernel(one);
    await talk(one.end, two.end, '10.5.1.2');
    await talk(two.end, one.end, '10.5.2.2');
    await ping(one.container, two.containerIp, 56);
    if (kernelPath !== 'off') expect(await carriedByKernel(one)).toBeGreaterThan(before + 500);
  };

  it('a service address leads to a container of another host', async () => {
    const { one, two } = await start();
    await translate(one.namespace, 'prerouting', 'ip daddr 10.96.0.10 dnat to 10.5.2.2');
    const service = { namespace: two.container, address: SERVICE };
    await talk(one.end, service, '10.5.1.2');
    await plainly();
    // the same ends, by their own addresses and by the service's, in turn
    await ask(one.end, two.end, '10.5.1.2');
    await talk(one.end, service);
  });

  it('a service address that was not there when the flow began is obeyed by the next flow, whatever went before', async () => {
    const { one, two } = await start();
    await plainly();
    await translate(one.namespace, 'prerouting', 'ip daddr 10.96.0.10 dnat to 10.5.2.2');
    await talk(one.end, { namespace: two.container, address: SERVICE });
  });

  it('a port of a host leads to a container of another host, from outside and from containers', async () => {
    const { there, one, two } = await start();
    await translate(
      one.namespace,
      'prerouting',
      'ip daddr { 192.168.77.1, 10.5.1.1 } udp dport != 8285 dnat to 10.5.2.2\nip daddr { 192.168.77.1, 10.5.1.1 } meta l4proto tcp dnat to 10.5.2.2',
    );
    await translate(one.namespace, 'postrouting', 'ip saddr != 10.5.0.0/16 oifname "flannel0" masquerade');
    const outside = { namespace: there.switch, address: OUTSIDE };
    await talk(outside, { namespace: two.container, address: one.publicIp });
    await talk(one.end, { namespace: two.container, address: address('10.5.1.1') });
    await plainly();
  });

  it('a port of a host leads to a container of its own, for containers of another host', async () => {
    const { one, two } = await start();
    await translate(one.namespace, 'prerouting', 'ip daddr 10.5.1.1 dnat to 10.5.1.2');
    await talk(two.end, { namespace: one.container, address: address('10.5.1.1') }, '10.5.2.2');
    await plainly();
  });

  it('what leaves the bridge is masqueraded, as Docker does, and answers still come from who was asked', async () => {
    const { one, two } = await start();
    for (const { namespace, number } of [one, two]) {
      await translate(namespace, 'postrouting', `ip saddr 10.5.${number}.0/24 oifname != "br0" masquerade`);
    }
    await talk(one.end, two.end);
    await talk(two.end, one.end);
    await ping(one.container, two.containerIp, 56);
  });

  it('containers reach the world beyond, masqueraded', async () => {
    const { there, one } = await start();
    await translate(one.namespace, 'postrouting', 'ip saddr 10.5.0.0/16 ip daddr != 10.5.0.0/16 masquerade');
    await talk(one.end, { namespace: there.switch, address: OUTSIDE }, '192.168.77.1');
    await plainly();
  });

  it('a connection that rules refuse does not come about, though another goes straight', async () => {
    const { one, two } = await start();
    await plainly();
    const rule = 'ip daddr 10.5.1.2 tcp flags & (syn|ack) == syn reject with tcp reset';
    await nft(one.namespace, `table ip t {\nchain f {\ntype filter hook forward priority 0;\n${rule}\n}\n}\n`);
    expect(await refusal(two.end, one.end)).toBe('ECONNREFUSED');
    await sendFile(one.end, two.end, file(MIB, 1));
  });
});
