import { describe, expect, it } from 'vitest';
import type { Descriptors } from '../../../../src/backend/udp/descriptors.js';
import { featuresOf } from '../../../../src/backend/udp/features.js';
import type { UdpBackendOptions } from '../../../../src/backend/udp/options.js';
import { DataPlane } from '../../../../src/encap/datapath/data-plane.js';
import { planLayout } from '../../../../src/encap/forwarding/layout.js';
import { EINVAL, EIO } from '../../../../src/linux/constants.js';
import { prefix } from '../support.js';

const NETWORKS = { ipv4: prefix('10.5.0.0/16'), ipv6: null };
const options: UdpBackendOptions = {
  deviceName: 'flannel0',
  checkSenders: true,
  offloads: { tunTso: 'auto', tunUso: 'auto', udpGso: 'on', udpGro: 'auto', udpBatch: 'auto' },
  forwarderThreads: 'auto',
  socketBuffer: 65_536,
  txQueueLength: 1000,
  kernelPath: 'off',
  kernelPathMerge: true,
};
const kernelPath = { features: () => [] };
const buffers = { sendBuffer: 65_536, receiveBuffer: 65_536 };
const descriptors = {
  tun: { fd: -1, name: 'flannel0', vnetHeader: true, tso: true, uso: true, tsoErrno: 0, usoErrno: 0 },
  socket: { fd: -1, gso: true, gro: true, gsoErrno: 0, groErrno: 0, ...buffers },
} as Descriptors;

describe('an offload that the kernel refuses while it is used', () => {
  const plane = new DataPlane(NETWORKS, 8285, planLayout(NETWORKS, { peers: 1, subnetNodes: 1, senderNodes: 1 }));
  const stateOf = (wanted: string) => {
    const { inForce, reason } = featuresOf(options, { descriptors, plane, threads: 1, kernelPath }).find(
      ({ name }) => name === wanted,
    )!;
    return [inForce, reason];
  };

  it('is shown as off, with the reason and for how long, and as on when it is tried again', () => {
    expect(stateOf('udp_gso')).toEqual(['on', '']);
    plane.control.turnOff('udp_gso', EINVAL, false);
    expect(stateOf('udp_gso')).toEqual(['off', 'turned off for a minute after EINVAL: Invalid argument']);
    expect(stateOf('merge_tcp')).toEqual(['on', '']);
    plane.control.turnOn('udp_gso');
    expect(stateOf('udp_gso')).toEqual(['on', '']);
    plane.control.turnOff('udp_gso', EIO, true);
    expect(stateOf('udp_gso')).toEqual(['off', 'turned off for good after EIO: Input/output error']);
  });
});

describe('UDP super-packets that the kernel does not have', () => {
  const plane = new DataPlane(NETWORKS, 8285, planLayout(NETWORKS, { peers: 1, subnetNodes: 1, senderNodes: 1 }));
  const without = { ...descriptors, tun: { ...descriptors.tun, uso: false, usoErrno: EINVAL } } as Descriptors;
  const reasonOn = (release: string) =>
    featuresOf(options, { descriptors: without, plane, threads: 1, kernelPath }, release).find(
      ({ name }) => name === 'tun_uso',
    )?.reason;

  it('are explained where it is too old for them, and left as they are elsewhere', () => {
    expect(reasonOn('6.1.192')).toBe(
      'refused by the kernel (EINVAL: Invalid argument): Linux 6.1.192 has no UDP super-packets on TUN devices',
    );
    expect(reasonOn('6.18.44')).toBe('refused by the kernel (EINVAL: Invalid argument)');
  });
});
