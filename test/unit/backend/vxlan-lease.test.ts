import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { kernelThrough } from '../../../src/backend/kernel/kernel.js';
import { readAnnouncement } from '../../../src/backend/vxlan/announcement.js';
import { isStationMac, parseMac, randomMac } from '../../../src/backend/vxlan/mac.js';
import { VxlanBackend } from '../../../src/backend/vxlan/vxlan-backend.js';
import { decodeLeaseValue, encodeLeaseValue } from '../../../src/subnet/keys.js';
import { contextOf } from './support.js';

describe('what a host announces', () => {
  const device = { ifindex: 3, ifname: 'flannel.1', flags: [], mtu: 1450, addr_info: [] };
  const kernelWith = (links: unknown) =>
    kernelThrough(async () => ({ status: 0, stdout: JSON.stringify(links), stderr: '' }));
  const backend = (links: unknown, options = {}) =>
    new VxlanBackend(contextOf({ Type: 'vxlan', ...options }), '/nowhere', kernelWith(links));

  it("is flannel's, byte for byte, with the MAC of the device that is there", async () => {
    const present = { ...device, address: 'c6:d2:32:6f:8f:44', linkinfo: { info_kind: 'vxlan' } };
    expect(encodeLeaseValue(await backend([present]).attributes())).toBe(
      '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}',
    );
  });

  it('is the same every time it is asked', async () => {
    const fresh = backend([]);
    expect(await fresh.attributes()).toEqual(await fresh.attributes());
  });

  it('has another MAC on every new host', async () => {
    expect(await backend([]).attributes()).not.toEqual(await backend([]).attributes());
  });

  it('is understood by a peer after a trip through the registry', async () => {
    const attributes = await backend([], { VNI: 70_000 }).attributes();
    const { backendData } = decodeLeaseValue('10.5.1.0-24', encodeLeaseValue(attributes));
    expect(readAnnouncement(backendData, 70_000)).toEqual({
      mac: (attributes.backendData as { VtepMAC: string }).VtepMAC,
    });
  });
});

describe('what a peer announces', () => {
  it.each([
    { VNI: 1, VtepMAC: 'c6:d2:32:6f:8f:44' },
    { VtepMAC: 'c6:d2:32:6f:8f:44' },
    { vni: 1, vtepmac: 'C6-D2-32-6F-8F-44' },
    { VNI: 1, VtepMAC: 'c6:d2:32:6f:8f:44', Later: 'addition' },
  ])('%j is understood', (data) => {
    expect(readAnnouncement(data, 1)).toEqual({ mac: 'c6:d2:32:6f:8f:44' });
  });

  it('may be a VNI that flannel cut to 16 bits', () => {
    expect(readAnnouncement({ VNI: 70_000 & 0xffff, VtepMAC: 'c6:d2:32:6f:8f:44' }, 70_000)).toHaveProperty('mac');
  });

  it.each([
    [undefined, /no BackendData/],
    [null, /no BackendData/],
    ['c6:d2:32:6f:8f:44', /no BackendData/],
    [{ VNI: 1 }, /null in its lease is no MAC/],
    [{ VNI: 1, VtepMAC: 'c6:d2' }, /"c6:d2" in its lease is no MAC/],
    [{ VNI: 1, VtepMAC: '01:00:5e:00:00:01' }, /no MAC address of a host/],
    [{ VNI: 1, VtepMAC: '00:00:00:00:00:00' }, /no MAC address of a host/],
    [{ VNI: 1, VtepMAC: 'c6:d2:32:6f:8f:44 dev lo' }, /no MAC/],
    [{ VNI: 2, VtepMAC: 'c6:d2:32:6f:8f:44' }, /its VNI is 2, ours is 1/],
  ])('%j is refused', (data, reason) => {
    expect(readAnnouncement(data, 1)).toEqual({ refusal: expect.stringMatching(reason) });
  });

  it('is never anything but a MAC or a reason', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (data) => {
        const read = readAnnouncement(data, 1);
        expect('mac' in read ? parseMac(read.mac) : read.refusal).toBeTruthy();
      }),
    );
  });
});

describe('MAC addresses', () => {
  it('that are made are locally administered and belong to one host', () => {
    for (let i = 0; i < 200; i++) {
      const mac = randomMac();
      expect(parseMac(mac)).toBe(mac);
      expect(isStationMac(mac)).toBe(true);
      expect(Number.parseInt(mac.slice(0, 2), 16) & 2).toBe(2);
    }
  });

  it.each(['', 'c6:d2:32:6f:8f', 'c6:d2:32:6f:8f:44:55', 'c6:d2-32:6f:8f:44', 'g6:d2:32:6f:8f:44', 'c6d2.326f.8f44'])(
    '%j is none',
    (text) => {
      expect(parseMac(text)).toBeNull();
    },
  );
});
