import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { readRunRequest } from '../../../src/cli/options.js';
import { realParts } from '../../../src/daemon/assemble.js';
import { config, prefix } from './fakes.js';

let directory: string;

beforeEach(async () => {
  directory = await fs.mkdtemp(path.join(os.tmpdir(), 'tweed-tools-'));
  await fs.writeFile(path.join(directory, 'iptables'), '#!/bin/sh\necho $$ > "$0.pid"\nexec sleep 60\n', {
    mode: 0o755,
  });
  vi.stubEnv('PATH', `${directory}:${process.env.PATH}`);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await fs.rm(directory, { recursive: true });
});

it('breaks off a check of the rules, and ends the program that it waits for', async () => {
  const { options } = readRunRequest([], {});
  const past = { network: null, subnet: null, networkV6: null, subnetV6: null, warnings: [] };
  const ending = new AbortController();
  const rules = realParts.createRules(
    options,
    config,
    { subnet: prefix('10.5.7.0/24'), subnetV6: null },
    past,
    ending.signal,
  );
  const check = rules.check();
  check.catch(() => {});
  const pid = await vi.waitFor(async () => {
    const text = await fs.readFile(path.join(directory, 'iptables.pid'), 'utf8');
    expect(text).toMatch(/^\d+\n$/);
    return Number(text);
  });
  ending.abort();
  await expect(check).rejects.toThrow('iptables');
  await vi.waitFor(() => expect(() => process.kill(pid, 0)).toThrow('ESRCH'));
  await expect(rules.check()).rejects.toThrow('not started');
});
