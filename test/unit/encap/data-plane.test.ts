import { describe, expect, it } from 'vitest';
import { makeContext } from '../../../src/encap/datapath/context.js';
import { DataPlane } from '../../../src/encap/datapath/data-plane.js';
import { type Forwarder, ForwarderLoop } from '../../../src/encap/datapath/loop.js';
import { Tx } from '../../../src/encap/forwarding/counters.js';
import { planLayout } from '../../../src/encap/forwarding/layout.js';
import { EAGAIN, EINVAL, POLLIN } from '../../../src/linux/constants.js';
import { FakeKernel, SOCKET, TUN, WAKE } from './support/fake-kernel.js';
import { NETWORKS, PORT, workbench } from './support/workbench.js';

const layout = planLayout(NETWORKS, { peers: 8, subnetNodes: 16, senderNodes: 16 });
const makePlane = () => new DataPlane(NETWORKS, PORT, layout);
const tick = (plane: DataPlane, times: number) => {
  for (let i = 0; i < times; i++) plane.tick();
};

describe('a refused offload', () => {
  it('is turned on again after a minute', () => {
    const plane = makePlane();
    plane.control.turnOff('udp_gso', EINVAL, false);
    tick(plane, 60);
    expect(plane.control.turnedOff('udp_gso')).toBe(EINVAL);
    tick(plane, 1);
    expect(plane.control.turnedOff('udp_gso')).toBe(0);
    plane.control.turnOff('udp_gso', EINVAL, false);
    tick(plane, 60);
    expect(plane.control.turnedOff('udp_gso')).toBe(EINVAL);
  });

  it('stays off when it was given up, without a bearing on another', () => {
    const plane = makePlane();
    plane.control.turnOff('merge_tcp', EINVAL, true);
    plane.control.turnOff('merge_udp', EINVAL, false);
    tick(plane, 200);
    expect([plane.control.turnedOff('merge_tcp'), plane.control.turnedOff('merge_udp')]).toEqual([EINVAL, 0]);
  });
});

describe('a forwarder', () => {
  /** Serves one turn of a forwarder that does this, and ends. */
  function serveOnce(plane: DataPlane, turn: () => void): void {
    const kernel = new FakeKernel(plane.memory);
    kernel.pollAnswers.push({ tun: POLLIN });
    const context = makeContext(plane.memory, kernel, { ...workbench().options, layout, tun: TUN, socket: SOCKET });
    const forwarder: Forwarder = {
      direction: 'tx',
      descriptor: TUN,
      turn: () => {
        turn();
        plane.control.requestStop();
        return EAGAIN;
      },
    };
    new ForwarderLoop(context, 0, WAKE).serve([forwarder]);
  }

  it('that does not come out of its turn is stuck, for as long as it does not', () => {
    const plane = makePlane();
    const seen: number[] = [];
    serveOnce(plane, () => {
      for (let i = 0; i < 4; i++) {
        plane.tick();
        seen.push(plane.stuckFor);
      }
    });
    expect(seen).toEqual([0, 1, 2, 3]);
    plane.tick();
    expect(plane.stuckFor).toBe(0);
  });

  it('that sleeps because there is nothing to do is not', () => {
    const plane = makePlane();
    tick(plane, 100);
    serveOnce(plane, () => {});
    tick(plane, 100);
    expect(plane.stuckFor).toBe(0);
  });

  it('that is found in one turn after another is not', () => {
    const plane = makePlane();
    for (let i = 0; i < 10; i++) {
      plane.control.enterTurn(0);
      plane.tick();
      plane.control.leaveTurn(0);
    }
    expect(plane.stuckFor).toBe(0);
  });

  it('that takes long but counts what it does is not', () => {
    const plane = makePlane();
    serveOnce(plane, () => {
      for (let i = 0; i < 10; i++) {
        plane.counters.tx.add(Tx.reads, 1);
        plane.tick();
        expect(plane.stuckFor).toBe(0);
      }
      tick(plane, 2);
    });
    expect(plane.stuckFor).toBe(2);
  });
});
