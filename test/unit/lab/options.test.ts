import { describe, expect, it } from 'vitest';
import {
  completeOptions,
  etcdAddress,
  etcdAddressV6,
  firstDifference,
  hostAddress,
  hostAddressV6,
  internetAddress,
  internetAddressV6,
  mostHosts,
  networkConfigOf,
  onUnderlay,
  reasonForIpv4Alone,
} from '../../../src/lab/options.js';

describe('lab options', () => {
  it('have defaults, also where undefined is given', () => {
    const options = completeOptions({ hosts: 5, network: undefined as unknown as string });
    expect(options).toMatchObject({ name: 'tweed', hosts: 5, containers: 2, network: '100.96.0.0/16', backend: 'udp' });
  });

  it.each([
    [{}, 'dual', 'dual'],
    [{ ipFamilies: 'ipv4' }, 'ipv4', 'ipv4'],
    [{ ipFamilies: 'ipv6' }, 'ipv6', 'ipv6'],
    [{ underlayFamily: 'ipv4' }, 'ipv4', 'ipv4'],
    [{ underlayFamily: 'ipv6' }, 'ipv6', 'ipv6'],
    [{ ipFamilies: 'ipv4', underlayFamily: 'dual' }, 'ipv4', 'dual'],
  ] as const)('take the families %o', (given, ipFamilies, underlayFamily) => {
    expect(completeOptions(given)).toMatchObject({ ipFamilies, underlayFamily });
  });

  it.each([
    [{}, true, null],
    [{}, false, /no IPv6/],
    [{ underlayMtu: 1350 }, true, null],
    [{ underlayMtu: 1349 }, true, /1350 bytes/],
    [{ underlayMtu: 1359, backend: 'wireguard' }, true, /1360 bytes/],
    [{ ipFamilies: 'dual' }, false, null],
    [{ underlayFamily: 'ipv6', underlayMtu: 1300 }, true, null],
  ] as const)('leave IPv6 away where there can be none, and nobody chose: %o, %s', (given, hasIpv6, reason) => {
    if (reason === null) expect(reasonForIpv4Alone(given, hasIpv6)).toBeNull();
    else expect(reasonForIpv4Alone(given, hasIpv6)).toMatch(reason);
    expect(completeOptions({}, 'ipv4')).toMatchObject({ ipFamilies: 'ipv4', underlayFamily: 'ipv4' });
  });

  it('are refused with what to choose instead', () => {
    expect(() => completeOptions({ hosts: 0 })).toThrow(/hosts is 0; choose a whole number from 1/);
    expect(() => completeOptions({ containers: 1.5 })).toThrow(/containers is 1.5; choose/);
    expect(() => completeOptions({ underlayMtu: 100 })).toThrow(/underlay-mtu is 100; choose/);
    expect(() => completeOptions({ network: '10.0.0.0' })).toThrow(/write a.b.c.d\/len/);
    expect(() => completeOptions({ network: '192.168.0.0/16' })).toThrow(/overlaps the lab's underlay/);
  });

  it('differ only where something else was asked for', () => {
    const running = completeOptions({ hosts: 4, daemonArgs: ['-x'] });
    expect(firstDifference(running, {})).toBeNull();
    expect(firstDifference(running, { hosts: 4, daemonArgs: ['-x'] })).toBeNull();
    expect(firstDifference(running, { hosts: 4, backend: 'vxlan' })).toBe('backend');
  });

  it.each([
    ['ipv4', { Network: '100.96.0.0/16' }],
    ['ipv6', { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00:100:96::/48' }],
    ['dual', { Network: '100.96.0.0/16', EnableIPv6: true, IPv6Network: 'fd00:100:96::/48' }],
  ] as const)('of the families %s make its configuration', (ipFamilies, expected) => {
    const options = completeOptions({ ipFamilies, underlayFamily: 'dual' });
    expect(JSON.parse(networkConfigOf(options))).toEqual({ ...expected, Backend: { Type: 'udp' } });
  });

  it('that no backend could carry are refused', () => {
    for (const backend of ['vxlan', 'host-gw', 'wireguard'] as const) {
      expect(() => completeOptions({ backend, ipFamilies: 'dual', underlayFamily: 'ipv4' })).toThrow(
        /carries IPv6 by IPv6 only/,
      );
      expect(() => completeOptions({ backend, ipFamilies: 'dual', underlayFamily: 'ipv6' })).toThrow(
        /carries IPv4 by IPv4 only/,
      );
      completeOptions({ backend, ipFamilies: 'ipv6', underlayFamily: 'ipv6' });
    }
    expect(() => completeOptions({ ipFamilies: 'ipv4', underlayFamily: 'ipv6' })).toThrow(
      /looks for an IPv4 address only/,
    );
    completeOptions({ ipFamilies: 'dual', underlayFamily: 'ipv6' });
    expect(() => completeOptions({ ipFamilies: 'dual', underlayMtu: 1300 })).toThrow(/whole number from 1350/);
    const tooSmall = { backend: 'wireguard', ipFamilies: 'dual', underlayFamily: 'dual', underlayMtu: 1355 } as const;
    expect(() => completeOptions(tooSmall)).toThrow(/whole number from 1360/);
    const oneDevice = { backend: 'wireguard', networkConfig: { Backend: { Mode: 'ipv6' } } } as const;
    completeOptions({ ...oneDevice, ipFamilies: 'dual', underlayFamily: 'ipv6' });
    expect(() => completeOptions({ networkV6: 'fd00:192:168::/48' })).toThrow(/overlaps the lab's underlay/);
    expect(() => completeOptions({ networkV6: '10.0.0.0/8' })).toThrow(/is no IPv6 prefix/);
  });

  it('make the network configuration', () => {
    const options = completeOptions({ backend: 'vxlan', networkConfig: { SubnetLen: 26, Backend: { VNI: 7 } } });
    expect(JSON.parse(networkConfigOf(options))).toEqual({
      Network: '100.96.0.0/16',
      EnableIPv6: true,
      IPv6Network: 'fd00:100:96::/48',
      SubnetLen: 26,
      Backend: { Type: 'vxlan', VNI: 7 },
    });
  });
});

describe('addresses of the underlay', () => {
  it('are distinct and on the underlay for every host that there can be', () => {
    const all = [internetAddress, etcdAddress, internetAddressV6, etcdAddressV6];
    for (let number = 1; number <= mostHosts; number++) all.push(hostAddress(number), hostAddressV6(number));
    expect(new Set(all).size).toBe(all.length);
    for (const address of all) expect(onUnderlay(address)).toMatch(/\/(20|64)$/);
  });

  it('get the length of its prefix, and no other address does', () => {
    expect(onUnderlay('192.168.65.9')).toBe('192.168.65.9/20');
    expect(() => onUnderlay('fd00::1')).toThrow(/choose an address of fd00:192:168:64::\/64/);
    expect(() => onUnderlay('10.0.0.1')).toThrow(/choose an address of 192.168.64.0\/20/);
  });
});
