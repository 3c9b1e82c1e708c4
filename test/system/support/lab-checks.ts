/** What every lab of three hosts with two containers each must do besides the matrix. */
import { expect } from 'vitest';
import type { Lab } from '../../../src/lab/lab.js';
import { farAddress } from '../../../src/lab/options.js';
import { patient } from '../../../src/lab/patience.js';

/** A container of a host reaches what lies beyond all hosts, in the name of its host. */
export async function expectReachesInternet(lab: Lab, host: string): Promise<void> {
  const { udp, tcp } = await lab.probe('internet').ports();
  const probe = lab.probe(`${host}/c1`);
  const { address } = lab.host(host);
  const exchange = { address: farAddress, port: udp, bytes: 100, tries: 3, timeout: patient(1_000) };
  expect(await probe.ask('exchange', exchange)).toMatchObject({ returned: true, seenAs: address });
  const transfer = { address: farAddress, port: tcp, bytes: 100_000, timeout: patient(5_000) };
  const sent = await probe.ask('transfer', transfer);
  expect(sent.receivedHash).toBe(sent.sentHash);
  expect(sent.seenAs).toBe(address);
}

/**
 * Ports of host1 lead to a container of its own and to one of host3.
 *
 * @param publish makes `HOST:PORT` lead to `HOST/CONTAINER:PORT`
 */
export async function expectPublishes(lab: Lab, publish: (from: string, to: string) => Promise<void>): Promise<void> {
  const { stdout } = await lab.exec('host1', ['ip', '-json', '-4', 'addr', 'show', 'dev', 'flannel0']);
  const [device] = JSON.parse(stdout) as [{ addr_info: { local: string }[] }];
  // The host's own containers see the caller. One behind another host sees host1's end of the tunnel, to answer through it.
  for (const [hostPort, place, seenAs] of [
    [8080, 'host1/c1', farAddress],
    [8081, 'host3/c2', device.addr_info[0]?.local],
  ] as const) {
    const { tcp } = await lab.probe(place).ports();
    await publish(`host1:${hostPort}`, `${place}:${tcp}`);
    const { address } = lab.host('host1');
    const sent = await lab
      .probe('internet')
      .ask('transfer', { address, port: hostPort, bytes: 100_000, timeout: patient(5_000) });
    expect(sent.receivedHash).toBe(sent.sentHash);
    expect(sent.seenAs).toBe(seenAs);
  }
}
