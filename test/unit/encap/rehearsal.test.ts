import { describe, expect, it } from 'vitest';
import { type RehearsalPlan, rehearse, TURNS } from '../../../src/encap/datapath/rehearsal.js';
import { Rx, readDrops, Tx } from '../../../src/encap/forwarding/counters.js';

const IPV4 = { ipv4: true, ipv6: false };
const IPV6 = { ipv4: false, ipv6: true };
const BOTH = { ipv4: true, ipv6: true };
const plans: readonly RehearsalPlan[] = [true, false].flatMap((vnetHeader) =>
  [IPV4, IPV6, BOTH].flatMap((overlay) => [IPV4, IPV6, BOTH].map((underlay) => ({ vnetHeader, overlay, underlay }))),
);
const name = ({ vnetHeader, overlay, underlay }: RehearsalPlan) =>
  `${JSON.stringify({ overlay, underlay })} ${vnetHeader ? 'with' : 'without'} super-packets`;

describe('a rehearsal', () => {
  it.each(plans.map((plan) => [name(plan), plan] as const))('of %s lets every packet take the whole way', (_, plan) => {
    const { tx, rx } = rehearse(['tx', 'rx'], plan);
    const receivers = plan.underlay.ipv4 && plan.underlay.ipv6 ? 2 : 1;
    expect(Object.entries(readDrops(tx, rx)).filter(([, packets]) => packets !== 0)).toEqual([]);
    expect([tx.get(Tx.turns), tx.get(Tx.reads), rx.get(Rx.receives)]).toEqual([TURNS, TURNS, receivers * TURNS]);
    expect(tx.get(Tx.sends)).toBe(TURNS);
    // half of what comes is small, half is a run of three
    expect(rx.get(Rx.packets)).toBe(2 * receivers * TURNS);
    expect(rx.get(Rx.bad_inner_checksum)).toBe(0);
    const superPackets = plan.vnetHeader ? TURNS / 2 : 0;
    expect([tx.get(Tx.super_packets), tx.get(Tx.segmented_sends)]).toEqual([superPackets, superPackets]);
    expect(rx.get(Rx.merged_writes)).toBe(receivers * superPackets);
  });

  it.each([['tx'], ['rx']] as const)('of one direction leaves the other alone: %s', (direction) => {
    const counters = rehearse([direction], { vnetHeader: true, overlay: BOTH, underlay: BOTH });
    const other = direction === 'tx' ? 'rx' : 'tx';
    expect(counters[direction].sum()).toBeGreaterThan(TURNS);
    expect(counters[other].sum()).toBe(0);
  });
});
