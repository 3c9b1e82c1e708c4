/** What every lab of three hosts with two containers each must do besides the matrix. */
import { isIPv6 } from 'node:net';
import { expect } from 'vitest';
import type { Lab } from '../../../src/lab/lab.js';
import { farAddress, farAddressV6, ofFamilies } from '../../../src/lab/options.js';
import { patient } from '../../../src/lab/patience.js';

/** The internet's address and the host's own, for each family that both the overlay and the hosts have. */
function waysOut(lab: Lab, host: string): readonly { far: string; own: string }[] {
  const { ipFamilies } = lab.options;
  const ways = ofFamilies(ipFamilies, farAddress, farAddressV6).flatMap((far) => {
    const own = lab.host(host).addresses.find((address) => isIPv6(address) === isIPv6(far));
    return own === undefined ? [] : [{ far, own }];
  });
  expect(ways).not.toEqual([]);
  return ways;
}

/** A container of a host reaches what lies beyond all hosts, in the name of its host. */
export async function expectReachesInternet(lab: Lab, host: string): Promise<void> {
  const { udp, tcp } = await lab.probe('internet').ports();
  const probe = lab.probe(`${host}/c1`);
  for (const { far: address, own } of waysOut(lab, host)) {
    const exchange = { address, port: udp, bytes: 100, tries: 3, timeout: patient(1_000) };
    expect(await probe.ask('exchange', exchange)).toMatchObject({ returned: true, seenAs: own });
    const transfer = { address, port: tcp, bytes: 100_000, timeout: patient(5_000) };
    const sent = await probe.ask('transfer', transfer);
    expect(sent.receivedHash).toBe(sent.sentHash);
    expect(sent.seenAs).toBe(own);
  }
}

/**
 * Ports of host1 lead to a container of its own and to one of host3.
 *
 * @param publish makes `HOST:PORT` lead to `HOST/CONTAINER:PORT`
 */
export async function expectPublishes(lab: Lab, publish: (from: string, to: string) => Promise<void>): Promise<void> {
  const { stdout } = await lab.exec('host1', ['ip', '-json', 'addr', 'show', 'dev', 'flannel0', 'scope', 'global']);
  const [device] = JSON.parse(stdout) as [{ addr_info: { local: string }[] }];
  const ownEnd = (far: string) => device.addr_info.find(({ local }) => isIPv6(local) === isIPv6(far))?.local;
  for (const [hostPort, place] of [
    [8080, 'host1/c1'],
    [8081, 'host3/c2'],
  ] as const) {
    const { tcp } = await lab.probe(place).ports();
    await publish(`host1:${hostPort}`, `${place}:${tcp}`);
    for (const { far, own: address } of waysOut(lab, 'host1')) {
      const sent = await lab
        .probe('internet')
        .ask('transfer', { address, port: hostPort, bytes: 100_000, timeout: patient(5_000) });
      expect(sent.receivedHash).toBe(sent.sentHash);
      // The host's own containers see the caller. One behind another host sees host1's end of the tunnel, to answer through it.
      expect(sent.seenAs).toBe(place.startsWith('host1/') ? far : ownEnd(far));
    }
  }
}
