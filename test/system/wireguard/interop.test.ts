import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ipv4Endpoint } from '../../../src/wireguard/endpoint.js';
import { formatKey, PrivateKey } from '../../../src/wireguard/keys.js';
import { INITIATION, RESPONSE, TRANSPORT } from '../../../src/wireguard/messages.js';
import { seeded } from '../../support/wireguard/host.js';
import { Namespace } from '../datapath/support/namespace.js';
import { until } from '../datapath/support/until.js';
import { InteropPeer } from './support/peer.js';
import { THEIR_PORT, WireguardGo } from './support/wireguard-go.js';

const theirKey = seeded('their key')(32);
const theirPublicKey = new PrivateKey(theirKey.slice()).publicKey;
const presharedKey = seeded('preshared')(32);

let namespace: Namespace;
let theirs: WireguardGo;
let ours: InteropPeer;

beforeEach(async () => {
  namespace = new Namespace();
  await namespace.ip('link set lo up');
  theirs = new WireguardGo(namespace);
  ours = new InteropPeer(namespace, `${Math.random()}`);
});

afterEach(async () => {
  ours.close();
  await theirs.stop();
  namespace.close();
});

const theirEndpoint = ipv4Endpoint('127.0.0.1', THEIR_PORT);

function types(way: 'sent' | 'received'): number[] {
  return ours.record.filter((one) => one.way === way).map(({ bytes }) => bytes[0]);
}

describe.each([
  { name: 'without a preshared key', psk: {} },
  { name: 'with a preshared key', psk: { presharedKey } },
])('with wireguard-go, $name', ({ psk }) => {
  it('we are the initiator: packets of all lengths come back', async () => {
    await theirs.start(theirKey, { publicKey: ours.host.device.publicKey, ...psk });
    const peer = ours.host.setPeer({ publicKey: theirPublicKey, endpoint: theirEndpoint!, ...psk });
    for (const size of [0, 1, 3, 56, 100, 1000, 1391, 1392]) await ours.ping(peer, size);
    expect(types('sent').filter((type) => type === INITIATION)).toHaveLength(1);
    expect(ours.host.drops()).toEqual({ no_key: 1 });
    const [status] = [...ours.host.device.peers()];
    const theirLine = (await theirs.show()).trim().split('\n')[1].split('\t');
    expect(theirLine[0]).toBe(formatKey(ours.host.device.publicKey));
    expect(Number(theirLine[4])).toBeGreaterThan(0);
    expect([Number(theirLine[5]), Number(theirLine[6])]).toEqual([status.sentBytes, status.receivedBytes]);
  });

  it('we are the responder', async () => {
    const peer = ours.host.setPeer({ publicKey: theirPublicKey, ...psk });
    await theirs.start(theirKey, {
      publicKey: ours.host.device.publicKey,
      ...psk,
      endpoint: `127.0.0.1:${ours.port}`,
      persistentKeepalive: 1,
    });
    await ours.until('their first message', () => types('received').includes(TRANSPORT));
    await ours.ping(peer, 200);
    expect(types('received')).toContain(INITIATION);
    expect(types('sent').filter((type) => type === RESPONSE)).toHaveLength(1);
    expect(types('sent')).not.toContain(INITIATION);
    expect(ours.host.drops()).toEqual({});
  });
});

describe('with wireguard-go', () => {
  async function connect(): Promise<number> {
    await theirs.start(theirKey, { publicKey: ours.host.device.publicKey });
    const peer = ours.host.setPeer({ publicKey: theirPublicKey, endpoint: theirEndpoint! });
    await ours.ping(peer);
    return peer;
  }

  /** Their clock is the real one, and they take no two initiations within 20 ms. */
  async function secondInitiation(): Promise<void> {
    const soonest = performance.now() + 40;
    await until('the next initiation to be due', () => performance.now() > soonest);
  }

  it('a rekey after our two minutes loses nothing', async () => {
    const peer = await connect();
    for (let round = 0; round < 3; round++) {
      await secondInitiation();
      ours.ahead += 121_000;
      for (let i = 0; i < 20; i++) await ours.ping(peer);
    }
    expect(types('sent').filter((type) => type === INITIATION).length).toBe(4);
    expect(ours.host.drops()).toEqual({ no_key: 1 });
  });

  it('a session that has ended on our side is made anew by either', async () => {
    const peer = await connect();
    await secondInitiation();
    ours.ahead += 200_000;
    ours.turn();
    await ours.ping(peer);
    ours.ahead += 200_000;
    ours.turn();
    await theirs.setPeer({
      publicKey: ours.host.device.publicKey,
      endpoint: `127.0.0.1:${ours.port}`,
      persistentKeepalive: 1,
    });
    const sent = ours.record.length;
    await ours.until('a keepalive under a key we gave up', () => (ours.host.drops().unknown_session ?? 0) > 0);
    await ours.ping(peer);
    expect(ours.record.length).toBeGreaterThan(sent);
  });

  it('their endpoint follows us when we roam, ours follows them', async () => {
    const peer = await connect();
    const before = ours.port;
    ours.roam();
    expect(ours.port).not.toBe(before);
    await ours.ping(peer);
    expect(await theirs.show()).toContain(`127.0.0.1:${ours.port}`);
    await theirs.set('listen-port', String(THEIR_PORT + 7));
    await theirs.setPeer({ publicKey: ours.host.device.publicKey, persistentKeepalive: 1 });
    await ours.until('their new port', () => ours.host.endpoints.get(peer)?.port === THEIR_PORT + 7);
    await ours.ping(peer);
  });

  it('keepalives go both ways', async () => {
    const peer = await connect();
    ours.host.setPeer({ publicKey: theirPublicKey, endpoint: theirEndpoint!, persistentKeepalive: 1_000 });
    const before = (await theirs.show()).trim().split('\n')[1].split('\t')[5];
    await ours.until('two keepalives of ours', () => types('sent').filter((type) => type === TRANSPORT).length >= 5);
    await until(
      'them to have come',
      async () => Number((await theirs.show()).trim().split('\t').at(-3)) > Number(before),
    );
    await theirs.setPeer({ publicKey: ours.host.device.publicKey, persistentKeepalive: 1 });
    await ours.until(
      'theirs',
      () => ours.record.filter(({ way, bytes }) => way === 'received' && bytes.length === 32).length >= 2,
    );
    await ours.ping(peer);
    expect(theirs.log.join('')).not.toMatch(/invalid|panic/i);
  });
});
