import type { Argv, CommandModule } from 'yargs';
import { TweedError } from '../../base/errors.js';
import { printableLines } from '../../base/printable.js';
import { formatHints } from '../../lab/hints.js';
import { Lab } from '../../lab/lab.js';
import { formatMatrix } from '../../lab/matrix.js';
import { defaultLabName, parsePublication, parsePublishedPort } from '../../lab/names.js';
import { backendKinds, familyChoices, type LabOptions, registryKinds } from '../../lab/options.js';
import { lineProgress } from '../../lab/progress.js';
import { formatStatus } from '../../lab/status-text.js';
import { printOut, printText, standardOutput } from '../print.js';
import { interruption } from './interruption.js';
import { labHostCommand } from './lab-host.js';
import { labTourCommand } from './lab-tour.js';
import { labTraceCommand } from './lab-trace.js';
import { jsonOption } from './shared.js';

type Named = { name: string };

function print(text: string): void {
  printText(`${text}\n`);
}

/** Runs with a lab that is up, and ends its probes afterwards. */
async function withLab<T>(name: string, work: (lab: Lab) => Promise<T>): Promise<T> {
  const lab = await Lab.find(name);
  try {
    return await work(lab);
  } finally {
    await lab.close();
  }
}

const upOptions = {
  hosts: { type: 'number', describe: 'How many hosts (3)' },
  containers: { type: 'number', describe: 'How many containers each host has (2)' },
  mode: {
    type: 'string',
    array: true,
    describe:
      'How containers are joined, as Docker’s --network: bridge, none, host, container:c1; for one of each host c2=host',
  },
  registry: { choices: registryKinds, describe: 'Where leases are kept (etcd if it is installed, else directory)' },
  'ip-families': {
    choices: familyChoices,
    describe: 'What the overlay carries (dual; ipv4 where the machine has no IPv6)',
  },
  'underlay-family': { choices: familyChoices, describe: 'What addresses the hosts have (as --ip-families)' },
  network: { type: 'string', describe: 'The overlay’s IPv4 network (100.96.0.0/16)' },
  'network-v6': { type: 'string', describe: 'Its IPv6 network (fd00:100:96::/48)' },
  backend: { choices: backendKinds, describe: 'How packets get from host to host (udp)' },
  'underlay-mtu': { type: 'number', describe: 'MTU of the links between the hosts, bytes (1500)' },
  'kernel-path': {
    choices: ['off', 'route', 'direct', 'auto'],
    describe: 'Every daemon’s -kernel-path (off)',
  },
  'daemon-args': {
    type: 'string',
    array: true,
    describe: 'More arguments for every daemon, each a word: --daemon-args=--iptables-resync=1',
  },
} as const;

type UpArguments = Named &
  Partial<Omit<LabOptions, 'name'>> & {
    readonly kernelPath?: string;
    readonly mode?: string[];
    /** `npm run lab` prints them later, below the matrix. */
    readonly hints: boolean;
  };

const up: CommandModule<Named, UpArguments> = {
  command: 'up',
  describe: 'Make the lab, or repair the one that is up',
  builder: (yargs) =>
    yargs
      .options(upOptions)
      .option('hints', { type: 'boolean', default: true, hidden: true }) as unknown as Argv<UpArguments>,
  handler: async (args) => {
    const {
      name,
      hosts,
      containers,
      mode: modes,
      registry,
      ipFamilies,
      underlayFamily,
      network,
      networkV6,
      backend,
      underlayMtu,
      kernelPath,
    } = args;
    const more = kernelPath === undefined ? [] : [`--kernel-path=${kernelPath}`];
    const daemonArgs =
      args.daemonArgs === undefined && more.length === 0 ? undefined : [...more, ...(args.daemonArgs ?? [])];
    const given = {
      ...{ name, hosts, containers, modes, registry, ipFamilies, underlayFamily, network, networkV6 },
      ...{ backend, underlayMtu, daemonArgs },
    };
    const chosen = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    const { signal, release } = interruption();
    try {
      const lab = await Lab.up(chosen, { progress: lineProgress(standardOutput()), signal });
      await lab.close();
      if (args.hints) print(`\n${formatHints(name)}`);
    } finally {
      release();
    }
  },
};

const down: CommandModule<Named, Named> = {
  command: 'down',
  describe: 'Remove the lab, also what a crash left of one',
  handler: async ({ name }) => {
    let found = false;
    await lineProgress(standardOutput()).step(
      `take lab ${name} down`,
      async () => {
        found = await Lab.down(name);
      },
      () => (found ? 'nothing is left' : 'there was none'),
    );
  },
};

const status: CommandModule<Named, Named & { json: boolean }> = {
  command: 'status',
  describe: 'Show hosts, daemons and containers; ends with 1 when something is missing',
  builder: (yargs) => yargs.option('json', jsonOption),
  handler: async ({ name, json }) => {
    const found = await withLab(name, (lab) => lab.status());
    print(json ? JSON.stringify(found, null, 2) : formatStatus(found));
    if (!found.healthy) process.exitCode = 1;
  },
};

const test: CommandModule<Named, Named & { json: boolean }> = {
  command: 'test',
  describe: 'Check every ordered pair of containers; ends with 1 when a check fails',
  builder: (yargs) => yargs.option('json', jsonOption),
  handler: async ({ name, json }) => {
    const result = await withLab(name, (lab) => lab.test());
    print(json ? JSON.stringify(result, null, 2) : formatMatrix(result));
    if (!result.ok) process.exitCode = 1;
  },
};

const execute: CommandModule<Named, Named & { place: string }> = {
  command: 'exec <place>',
  describe: 'Run a command in host1, host1/c1, internet, etcd or switch: exec host1/c1 -- ip route',
  builder: (yargs) =>
    yargs
      .usage('$0 exec <place> -- <command>..')
      .positional('place', { type: 'string', demandOption: true, describe: 'Where' })
      .parserConfiguration({ 'populate--': true, 'parse-numbers': false, 'parse-positional-numbers': false }),
  handler: async ({ name, place, '--': words }) => {
    const argv = (words as string[] | undefined) ?? [];
    if (argv.length === 0) {
      throw new TweedError('LAB_EXEC', 'there is no command; write it after two dashes: exec host1/c1 -- ip route');
    }
    const lab = await Lab.find(name);
    const child = lab.spawn(place, argv, { stdio: 'inherit', env: { ...process.env, ...lab.environment(place) } });
    process.on('SIGINT', () => {}); // Ctrl-C is for the command, which gets it too
    process.exitCode = await new Promise<number>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? 130 : 143)));
    });
  },
};

const publish: CommandModule<Named, Named & { from: string; to: string }> = {
  command: 'publish <from> <to>',
  describe: "Make a container's port reachable by a host: publish host1:8080 host1/c1:80",
  builder: (yargs) =>
    yargs
      .positional('from', { type: 'string', demandOption: true, describe: 'HOST:PORT' })
      .positional('to', { type: 'string', demandOption: true, describe: 'HOST/CONTAINER:PORT' }),
  handler: async ({ name, from, to }) => {
    await withLab(name, (lab) => lab.publish(parsePublication(from, to)));
    print(`published ${from} → ${to}; try it from the internet namespace`);
  },
};

const unpublish: CommandModule<Named, Named & { port: string }> = {
  command: 'unpublish <port>',
  describe: 'Take a published port back: unpublish host1:8080',
  builder: (yargs) => yargs.positional('port', { type: 'string', demandOption: true, describe: 'HOST:PORT' }),
  handler: async ({ name, port }) => {
    const { host, number } = parsePublishedPort(port);
    await withLab(name, (lab) => lab.unpublish(host, number));
    print(`${port} is no longer published`);
  },
};

const logs: CommandModule<Named, Named & { host: string }> = {
  command: 'logs <host>',
  describe: "Print the log of a host's daemon, or of etcd",
  builder: (yargs) => yargs.positional('host', { type: 'string', demandOption: true, describe: 'host1 … or etcd' }),
  handler: async ({ name, host }) => {
    const log = await Lab.readLog(name, host);
    printOut(process.stdout.isTTY ? printableLines(log) : log);
  },
};

/** `tweed lab …`: several hosts on one machine. */
export const command: CommandModule = {
  command: 'lab',
  builder: (yargs) =>
    yargs
      .option('name', { type: 'string', default: defaultLabName, describe: 'Which lab; several can be up at once' })
      .command(up)
      .command(status)
      .command(test)
      .command(execute)
      .command(labTraceCommand)
      .command(labTourCommand)
      .command(publish)
      .command(unpublish)
      .command(logs)
      .command(down)
      .command(labHostCommand)
      .demandCommand(
        1,
        'Say what to do with the lab: up, status, test, exec, trace, tour, publish, unpublish, logs or down',
      )
      .strict(),
  handler: () => {},
};
