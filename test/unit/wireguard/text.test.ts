import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addressOf, endpointOf, formatEndpoint, ipv4Endpoint, sameEndpoint } from '../../../src/wireguard/endpoint.js';
import { BadKeyError, formatKey, PrivateKey, parseKey, Secret } from '../../../src/wireguard/keys.js';
import { readSockaddr, writeSockaddr } from '../../../src/wireguard/peer-records.js';
import { isLater, Timestamps } from '../../../src/wireguard/tai64n.js';
import { formatAnswer, RequestReader, type UserApiPeer } from '../../../src/wireguard/user-api.js';
import { v4 } from '../../support/wireguard/network.js';

describe('keys as text', () => {
  it('are read as they were written, and nothing else is read', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (key) => {
        expect(parseKey(formatKey(key), 'key')).toEqual(key);
      }),
    );
    const right = formatKey(new Uint8Array(32).fill(255));
    for (const wrong of [
      '',
      right.slice(1),
      `${right}\n`,
      right.replace('8=', '9='),
      right.replace('/', '!'),
      'A'.repeat(44),
    ]) {
      expect(() => parseKey(wrong, 'preshared key'), wrong).toThrow(BadKeyError);
    }
  });

  it('do not appear in errors, logs, JSON and inspections', () => {
    const secret = new Secret(new Uint8Array(32).fill(0xab));
    const key = new PrivateKey(new Uint8Array(32).fill(0xab));
    for (const text of [
      inspect({ secret, key }, { depth: 9, showHidden: true }),
      JSON.stringify({ secret, key }),
      `${secret}`,
    ]) {
      expect(text).not.toMatch(/171|abab|q6ur/i);
    }
    const wrong = 'q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6u';
    expect(() => parseKey(wrong, 'private key')).toThrow(/^the private key is not a key; give 32 bytes in base64/);
  });

  it('are zero when they are given up', () => {
    const key = new PrivateKey(new Uint8Array(32).fill(5));
    const other = new PrivateKey(new Uint8Array(32).fill(6));
    expect(key.agree(other.publicKey)).toBeDefined();
    key.zero();
    expect(key.secret.bytes.every((byte) => byte === 0)).toBe(true);
    expect(key.agree(other.publicKey)).toBeUndefined();
  });
});

describe('timestamps', () => {
  it('are TAI64N, a little in the past', () => {
    for (const now of [1_700_000_000_000, 1_700_000_000_999, 4_200_000_000_123]) {
      const view = new DataView(new Timestamps().next(now).buffer);
      // 2⁶² + 10 is 1970-01-01 00:00:00 UTC
      const seconds = Number(view.getBigUint64(0) - 2n ** 62n - 10n);
      const nanoseconds = view.getUint32(8);
      expect(nanoseconds).toBeLessThan(1e9);
      const behind = now - (seconds * 1000 + nanoseconds / 1e6);
      expect(behind).toBeGreaterThanOrEqual(0);
      expect(behind).toBeLessThan(17);
    }
  });

  it('grow whatever the clock does', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 2 ** 42 }), { minLength: 2, maxLength: 50 }), (times) => {
        const stamps = new Timestamps();
        let last = new Uint8Array(12);
        for (const time of times) {
          const next = new Uint8Array(stamps.next(time));
          expect(isLater(next, last)).toBe(true);
          last = next;
        }
      }),
    );
    expect(isLater(new Uint8Array(12), new Uint8Array(12))).toBe(false);
  });
});

describe('endpoints', () => {
  const v6 = (...groups: number[]) => ({
    address: Uint8Array.from(groups.flatMap((group) => [group >>> 8, group & 255])),
    port: 51820,
  });

  it.each([
    [v4(7), '192.0.2.7:51820'],
    [v6(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), '[2001:db8::1]:51820'],
    [v6(0, 0, 0, 0, 0, 0, 0, 0), '[::]:51820'],
    [v6(0, 0, 0, 0, 0, 0, 0, 1), '[::1]:51820'],
    [v6(1, 0, 0, 2, 0, 0, 0, 3), '[1:0:0:2::3]:51820'],
    [v6(1, 0, 2, 3, 4, 5, 6, 7), '[1:0:2:3:4:5:6:7]:51820'],
    [v6(0xfe80, 0, 0, 0, 1, 0, 0, 0), '[fe80::1:0:0:0]:51820'],
  ])('%j reads %s, and passes through a socket address', (endpoint, text) => {
    expect(formatEndpoint(endpoint)).toBe(text);
    const bytes = new Uint8Array(40).fill(255);
    writeSockaddr(bytes, 4, endpoint);
    expect(sameEndpoint(readSockaddr(bytes, 4), endpoint)).toBe(true);
    expect(endpointOf(addressOf(endpoint), endpoint.port)).toEqual(endpoint);
    expect(typeof addressOf(endpoint)).toBe(endpoint.address.length === 4 ? 'number' : 'bigint');
    expect([bytes[3], bytes[32]]).toEqual([255, 255]);
  });

  it('of IPv4 are read from text', () => {
    expect(ipv4Endpoint('192.0.2.7', 51820)).toEqual(v4(7));
    expect(ipv4Endpoint('192.0.2', 1)).toBeUndefined();
    expect(readSockaddr(new Uint8Array(28), 0)).toBeUndefined();
  });
});

describe('the user API', () => {
  const device = { privateKey: new Secret(new Uint8Array(32).fill(1)), listenPort: 51820, peers: [] as UserApiPeer[] };
  const peer: UserApiPeer = {
    number: 0,
    publicKey: new Uint8Array(32).fill(2),
    presharedKey: Secret.none(),
    endpoint: v4(2),
    lastHandshake: 1_700_000_000_250,
    sentBytes: 10,
    receivedBytes: 20,
    persistentKeepalive: 25_000,
    hasSession: true,
    allowedIps: ['10.5.2.0/24', 'fd00::/64'],
  };

  it('answers get=1', () => {
    expect(
      formatAnswer({ kind: 'get' }, { ...device, peers: [peer, { ...peer, endpoint: undefined, allowedIps: [] }] }),
    ).toBe(
      `private_key=${'01'.repeat(32)}
listen_port=51820
public_key=${'02'.repeat(32)}
preshared_key=${'00'.repeat(32)}
protocol_version=1
endpoint=192.0.2.2:51820
last_handshake_time_sec=1700000000
last_handshake_time_nsec=250000000
tx_bytes=10
rx_bytes=20
persistent_keepalive_interval=25
allowed_ip=10.5.2.0/24
allowed_ip=fd00::/64
public_key=${'02'.repeat(32)}
preshared_key=${'00'.repeat(32)}
protocol_version=1
last_handshake_time_sec=1700000000
last_handshake_time_nsec=250000000
tx_bytes=10
rx_bytes=20
persistent_keepalive_interval=25
errno=0

`,
    );
  });

  it('refuses everything else with an errno, whatever the pieces that it comes in', () => {
    const answers = (...chunks: string[]) => {
      const reader = new RequestReader();
      return chunks.flatMap((chunk) => reader.push(chunk)).map((request) => formatAnswer(request, device).slice(0, 9));
    };
    expect(answers('get=1\n\n')).toEqual(['private_k']);
    expect(answers('get', '=1\n', '\nset=1\nlisten_port=1\n\n', 'get=1\n\n')).toEqual([
      'private_k',
      'errno=-1\n',
      'private_k',
    ]);
    expect(answers('get=2\n\n', '\n\n', 'nonsense\n\n')).toEqual(['errno=-22', 'errno=-22', 'errno=-22']);
    expect(answers('get=1\n')).toEqual([]);
    expect(answers('x'.repeat(100_000))).toEqual(['errno=-71']);
  });
});
