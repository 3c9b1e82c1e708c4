import { describe, expect, it } from 'vitest';
import { contains, parseIpv4 } from '../../../src/base/ipv4.js';
import {
  completeOptions,
  etcdAddress,
  firstDifference,
  hostAddress,
  internetAddress,
  mostHosts,
  networkConfigOf,
  onUnderlay,
  underlayNetwork,
} from '../../../src/lab/options.js';

describe('lab options', () => {
  it('have defaults, also where undefined is given', () => {
    const options = completeOptions({ hosts: 5, network: undefined as unknown as string });
    expect(options).toMatchObject({ name: 'tweed', hosts: 5, containers: 2, network: '100.96.0.0/16', backend: 'udp' });
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

  it('make the network configuration', () => {
    const options = completeOptions({ backend: 'vxlan', networkConfig: { SubnetLen: 26, Backend: { VNI: 7 } } });
    expect(JSON.parse(networkConfigOf(options))).toEqual({
      Network: '100.96.0.0/16',
      SubnetLen: 26,
      Backend: { Type: 'vxlan', VNI: 7 },
    });
  });
});

describe('addresses of the underlay', () => {
  it('are distinct and on the underlay for every host that there can be', () => {
    const all = [internetAddress, etcdAddress];
    for (let number = 1; number <= mostHosts; number++) all.push(hostAddress(number));
    expect(new Set(all).size).toBe(all.length);
    expect(all.every((address) => contains(underlayNetwork, parseIpv4(address) as number))).toBe(true);
  });

  it('get the length of its prefix, and no other address does', () => {
    expect(onUnderlay('192.168.65.9')).toBe('192.168.65.9/20');
    expect(() => onUnderlay('10.0.0.1')).toThrow(/choose an address of 192.168.64.0\/20/);
  });
});
