import { describe, expect, it } from 'vitest';
import { containerAddress, containerAddresses, macOf, parseSubnetFile } from '../../../src/lab/containers.js';

describe('subnet.env', () => {
  it('tells bridge and containers their addresses and MTU', () => {
    const subnet = parseSubnetFile(
      'FLANNEL_NETWORK=100.96.0.0/16\nFLANNEL_SUBNET=100.96.7.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n',
    );
    expect(subnet).toEqual({ gateways: [{ address: 0x64600701, length: 24 }], mtu: 1472 });
    expect(containerAddress(subnet, 1)).toBe('100.96.7.2');
  });

  it('tells them those of both families', () => {
    const text = 'FLANNEL_SUBNET=100.96.7.1/24\nFLANNEL_IPV6_SUBNET=fd00:100:96:7::1/64\nFLANNEL_MTU=1430\n';
    expect(containerAddresses(parseSubnetFile(text), 2)).toEqual(['100.96.7.3', 'fd00:100:96:7::3']);
    const alone = parseSubnetFile(text.replace(/^FLANNEL_SUBNET.*\n/, ''));
    expect(containerAddresses(alone, 1)).toEqual(['fd00:100:96:7::2']);
    expect(() => parseSubnetFile(text.replace('fd00', 'zz'))).toThrow(/lacks FLANNEL_SUBNET/);
  });

  it('is refused when it lacks what containers need', () => {
    expect(() => parseSubnetFile('FLANNEL_MTU=1472\n')).toThrow(/lacks FLANNEL_SUBNET/);
    expect(() => parseSubnetFile('FLANNEL_SUBNET=100.96.7.1/24\n')).toThrow(/or FLANNEL_MTU; read the log/);
  });
});

it('MAC addresses are made of IPv4 addresses', () => {
  expect(macOf('fd00:100:96:7::3')).not.toBe(macOf('fd00:100:96:8::3'));
  expect(macOf('192.168.65.10')).toBe('02:42:c0:a8:41:0a');
});
