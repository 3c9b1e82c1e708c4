import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { announcementOf, readAnnouncement } from '../../../../src/backend/wireguard/announcement.js';
import { checkWireguardOptions, readWireguardOptions } from '../../../../src/backend/wireguard/options.js';
import { formatKey } from '../../../../src/wireguard/keys.js';

const keyOf = (byte: number) => formatKey(new Uint8Array(32).fill(byte));

describe('options of the network configuration', () => {
  it('flannel’s defaults', () => {
    const expected = {
      presharedKey: null,
      mode: 'separate',
      port: 51820,
      portV6: 51821,
      underlayMtu: null,
      keepalive: 0,
    };
    for (const nothing of [
      {},
      { listenport: 0, listenportv6: 0, mtu: 0, psk: '', mode: '' },
      { psk: null, mode: 'separate' },
    ]) {
      expect(readWireguardOptions(nothing)).toEqual({ options: expected, unknown: [] });
    }
  });

  it('each is read', () => {
    const given = {
      psk: keyOf(3),
      listenport: 7,
      listenportv6: 8,
      mtu: 1480,
      persistentkeepaliveinterval: 25,
      mode: 'auto',
    };
    expect(readWireguardOptions({ ...given, vni: 1 })).toEqual({
      options: {
        presharedKey: new Uint8Array(32).fill(3),
        mode: 'auto',
        port: 7,
        portV6: 8,
        underlayMtu: 1480,
        keepalive: 25,
      },
      unknown: ['vni'],
    });
  });

  it.each([
    [{ listenport: 65_536 }, /Backend.ListenPort/],
    [{ listenportv6: '5' }, /Backend.ListenPortV6/],
    [{ mtu: 147 }, /Backend.MTU: 147 is not possible; .*148 or more/],
    [{ persistentkeepaliveinterval: -1 }, /Backend.PersistentKeepaliveInterval/],
    [{ mode: 'both' }, /Backend.Mode: "both" is not possible; it is one of separate, auto, ipv4, ipv6/],
    [{ psk: 5 }, /Backend.PSK: is no key/],
  ])('%j is refused', (options, message) => {
    expect(() => readWireguardOptions(options)).toThrow(message);
  });

  it.each([
    [{ ListenPort: 7, ListenPortV6: 7 }, true, true],
    [{ ListenPort: 51_821 }, true, true],
    [{ ListenPort: 51_821 }, false, false],
    [{ ListenPort: 7, ListenPortV6: 7, Mode: 'auto' }, true, false],
    [{}, true, false],
  ])('two devices at one port are refused: %j with both families %s', (options, dual, refused) => {
    const check = () => checkWireguardOptions(options, dual);
    if (refused) expect(check).toThrow(/Backend.ListenPortV6: \d+ is ListenPort too; .*change one of them/);
    else check();
  });

  it('a preshared key that is wrong stays secret', () => {
    const secret = `${keyOf(7)}x`;
    try {
      readWireguardOptions({ psk: secret });
      expect.unreachable();
    } catch (error) {
      expect(String(error)).not.toContain(secret.slice(0, 8));
      expect(JSON.stringify(error)).not.toContain(secret.slice(0, 8));
    }
  });
});

describe('what a lease says', () => {
  it('has flannel’s names in flannel’s order', () => {
    expect(JSON.stringify(announcementOf(new Uint8Array(32).fill(1), 51820))).toBe(
      `{"PublicKey":"${keyOf(1)}","Port":51820}`,
    );
  });

  it('is read back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.integer({ min: 1, max: 65_535 }), (key, port) => {
        expect(readAnnouncement(announcementOf(key, port), 1)).toEqual({ publicKey: key, port });
      }),
    );
  });

  it('names count in any case, and an older release says no port', () => {
    expect(readAnnouncement({ publickey: keyOf(1) }, 51_999)).toEqual({
      publicKey: new Uint8Array(32).fill(1),
      port: 51_999,
    });
  });

  it.each([
    [null, 'its lease has no BackendData with a PublicKey'],
    [{}, 'null in its lease is no public key'],
    [{ PublicKey: 'x' }, '"x" in its lease is no public key'],
    [{ PublicKey: keyOf(1), Port: 0 }, '0 in its lease is no UDP port'],
    [{ PublicKey: keyOf(1), Port: '1' }, '"1" in its lease is no UDP port'],
  ])('%j is refused', (data, refusal) => {
    expect(readAnnouncement(data, 1)).toEqual({ refusal });
  });
});
