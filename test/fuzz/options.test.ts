import fc from 'fast-check';
import { describe, expect } from 'vitest';
import yargs from 'yargs';
import { silentLogger } from '../../src/base/log.js';
import { runFlags } from '../../src/cli/flag-table.js';
import { knownFlags } from '../../src/cli/known-flags.js';
import { readRunRequest } from '../../src/cli/options.js';
import { renderConfig } from '../../src/cli/print-config.js';
import { registryFlagNames, selected, withDaemonFlags } from '../../src/cli/shared-options.js';
import { ServiceManager } from '../../src/daemon/notify.js';
import { openRegistry } from '../../src/subnet/open-registry.js';
import { fuzz, near, taken } from './support.js';

const values = near(
  ...[
    'http://10.0.0.1:2379,https://b:2379',
    'file:///var/lib/x',
    'etcd:2379,',
    '/coreos.com/network',
    'eth0',
    '192.0.2.1',
  ],
  ...['true', '8080', '0x1f90', '(?i)^eth[0-9]+$', '/run/flannel/subnet.env', 'auto', 'info', '[::1]:2379'],
);
const names = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom(...runFlags.map(({ name }) => name)) },
  { weight: 1, arbitrary: values },
);
const argument = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(fc.constantFrom('-', '--'), names, values)
      .map(([dash, name, value]) => [`${dash}${name}=${value}`]),
  },
  { weight: 3, arbitrary: fc.tuple(names, values).map(([name, value]) => [`-${name}`, value]) },
  { weight: 1, arbitrary: values.map((value) => [value]) },
);
const argv = fc.array(argument, { maxLength: 4 }).map((all) => all.flat());
const variables = fc.constantFrom(...runFlags.flatMap(({ env }) => env ?? []));
const environment = fc.dictionary(variables, values, { maxKeys: 3 });

describe('a fuzz of options', () => {
  fuzz(
    'the daemon takes them all or names the one that is wrong',
    fc.tuple(argv, environment),
    1000,
    async ([args, env]) => {
      const request = taken(() => readRunRequest(args, env));
      if (request === null) return;
      renderConfig(request);
      renderConfig({ ...request, json: true });
      const { registry, rules, lease } = request.options;
      expect(rules.resyncSeconds).toBeGreaterThan(0);
      expect(lease.renewMarginSeconds).toBeLessThan(lease.ttlSeconds);
      if (!args.join().includes('etcd')) return; // the same as before, and slow
      await openRegistry(registry, silentLogger()).then(
        (open) => open.close(),
        (error: Error) => expect(error.message).toMatch(/etcd|TLS|file:|registry/), // what belongs together was not
      );
    },
  );

  fuzz('other commands take the registry’s as the daemon does', fc.tuple(argv, environment), 100, ([args, env]) => {
    if (args.join().length > 2000) return; // yargs itself takes its time over a long argument
    const parser = withDaemonFlags(yargs(args), registryFlagNames).exitProcess(false).help(false).version(false);
    const parsed = parser.parseSync() as Record<string, unknown>;
    taken(() =>
      knownFlags(parsed, registryFlagNames, selected(registryFlagNames), {
        environment: env,
        settings: null,
        silent: null,
        file: env,
      }),
    );
    taken(() => readRunRequest([], env));
  });

  const service = fc.record({
    NOTIFY_SOCKET: values,
    WATCHDOG_USEC: fc.oneof(values, fc.double().map(String)),
    WATCHDOG_PID: values,
  });
  fuzz('what a service manager tells is taken or passed over', service, 500, (told) => {
    const { WATCHDOG_PID, ...mine } = told;
    for (const one of [told, mine]) {
      const manager = new ServiceManager(one, () => {}, silentLogger());
      manager.status(told.NOTIFY_SOCKET);
      manager.stopping();
    }
    expect(WATCHDOG_PID).toBeTypeOf('string');
  });
});
