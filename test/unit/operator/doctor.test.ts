import fs from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger } from '../../../src/base/log.js';
import { renderFindings } from '../../../src/operator/doctor/doctor.js';
import { runChecks } from '../../../src/operator/doctor/finding.js';
import {
  gatherRegistryFacts,
  type RegistryFacts,
  registryChecks,
} from '../../../src/operator/doctor/registry-checks.js';
import { openRegistry } from '../../../src/subnet/open-registry.js';
import { config } from '../daemon/fakes.js';

const good: RegistryFacts = {
  endpoints: 'http://etcd:2379',
  error: '',
  milliseconds: 3,
  config,
  configProblem: '',
  leases: 2,
  unreadable: [],
  clockAheadMs: -900,
};
const levels = (facts: Partial<RegistryFacts>) =>
  Object.fromEntries(runChecks(registryChecks, { ...good, ...facts }).map(({ id, level }) => [id, level]));

describe('checks of the registry', () => {
  it.each<[string, Partial<RegistryFacts>, Record<string, string>]>([
    ['all is well', {}, { registry: 'ok', 'network-config': 'ok', leases: 'ok', clock: 'ok' }],
    ['it is down', { error: 'refused', config: null, clockAheadMs: null }, { registry: 'fail' }],
    [
      'there is no configuration',
      { config: null, configProblem: 'none' },
      { registry: 'ok', 'network-config': 'fail', leases: 'ok', clock: 'ok' },
    ],
    ['a key is bad', { unreadable: ['x'] }, { registry: 'ok', 'network-config': 'ok', leases: 'warn', clock: 'ok' }],
    [
      'clocks differ',
      { clockAheadMs: 90_000 },
      { registry: 'ok', 'network-config': 'ok', leases: 'ok', clock: 'warn' },
    ],
  ])('when %s', (_, facts, expected) => expect(levels(facts)).toEqual(expected));

  it('say which clock is behind', () => {
    const text = (clockAheadMs: number) => runChecks(registryChecks, { ...good, clockAheadMs }).at(-1)?.text;
    expect(text(90_000)).toContain("90 s behind etcd's");
    expect(text(-90_000)).toContain("90 s ahead of etcd's");
  });
});

describe('facts about the registry', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await fs.mkdtemp(path.join(os.tmpdir(), 'tweed-doctor-'));
  });
  afterEach(() => fs.rm(directory, { recursive: true }));

  it('come from a directory', async () => {
    const options = { endpoints: [`file://${directory}/r`], prefix: '/x' };
    expect((await gatherRegistryFacts(options)).error).not.toBe('');
    const registry = await openRegistry(options, silentLogger());
    await registry.setConfig('{"Network":"10.5.0.0/16"}', null);
    expect(await gatherRegistryFacts(options)).toMatchObject({
      error: '',
      leases: 0,
      config: { ipv4: { subnetLength: 24 } },
    });
    await registry.setConfig('{"Network":"10.5.0.0"}', null);
    expect(await gatherRegistryFacts(options)).toMatchObject({
      config: null,
      configProblem: expect.stringContaining('Network'),
    });
    await registry.close();
  });

  it("hold the server's clock", async () => {
    const server = http.createServer((_, response) => {
      response.setHeader('date', new Date(Date.now() + 3_600_000).toUTCString());
      response.end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const facts = await gatherRegistryFacts({ endpoints: [`http://u:secret@127.0.0.1:${port}`], prefix: '/x' });
    expect(Math.abs((facts.clockAheadMs ?? 0) - 3_600_000)).toBeLessThan(30_000);
    expect(JSON.stringify(facts)).not.toContain('secret');
    await new Promise((resolve) => server.close(resolve));
  });
});

describe('findings', () => {
  it('are printed with what mends them', () => {
    expect(
      renderFindings([
        { id: 'a', level: 'ok', text: 'fine', fix: '' },
        { id: 'b', level: 'fail', text: 'broken', fix: 'mend b' },
      ]),
    ).toBe('ok    a: fine\nFAIL  b: broken\n        mend it: mend b\n1 failure, 0 warnings, 1 in order\n');
  });
});
