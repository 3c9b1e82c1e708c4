import { describe, expect, it } from 'vitest';
import { readVxlanOptions } from '../../../src/backend/vxlan/options.js';
import { VxlanBackend } from '../../../src/backend/vxlan/vxlan-backend.js';
import { contextOf } from './support.js';

const read = (options: Record<string, unknown>) => readVxlanOptions(options).options;

describe('the options of vxlan', () => {
  const defaults = { vni: 1, port: 8472, underlayMtu: null, learning: false, gbp: false, directRouting: false };

  it("are flannel's when nothing is said", () => {
    expect(readVxlanOptions({})).toEqual({ options: defaults, unknown: [] });
    expect(read({ vni: null, port: 0, mtu: 0, learning: null })).toEqual(defaults);
  });

  it('are taken as they are given', () => {
    const given = { vni: 4096, port: 4789, mtu: 1400, learning: true, gbp: true, directrouting: true };
    expect(read(given)).toEqual({
      vni: 4096,
      port: 4789,
      underlayMtu: 1400,
      learning: true,
      gbp: true,
      directRouting: true,
    });
  });

  it.each([
    [{ vni: '1' }, /Backend\.VNI: "1" is not possible.*0 to 9999999, without quotes/],
    [{ vni: 10_000_000 }, /Backend\.VNI/],
    [{ vni: 1.5 }, /Backend\.VNI/],
    [{ port: 65_536 }, /Backend\.Port: 65536 .*0 to 65535/],
    [{ port: -1 }, /Backend\.Port/],
    [{ mtu: 100 }, /Backend\.MTU: 100 .*118 or more/],
    [{ mtu: true }, /Backend\.MTU/],
    [{ learning: 'yes' }, /Backend\.Learning: "yes" .*true or false/],
    [{ gbp: 1 }, /Backend\.GBP/],
    [{ directrouting: [] }, /Backend\.DirectRouting/],
  ])('%j is refused by name', (options, message) => {
    expect(() => read(options)).toThrow(message);
  });

  it('that mean nothing are told of', () => {
    expect(readVxlanOptions({ directroutng: true }).unknown).toEqual(['directroutng']);
  });

  it.each([
    [{}, 1450],
    [{ MTU: 1400 }, 1350],
    [{ MTU: 9000 }, 1450],
  ])('%j give the device MTU %i on an interface of 1500', (options, mtu) => {
    expect(new VxlanBackend(contextOf({ Type: 'vxlan', ...options }), '/nowhere').mtu).toBe(mtu);
  });
});
