import { existsSync } from 'node:fs';
import type { CommandModule } from 'yargs';
import { benchProgram } from './bench-program.js';
import { nearest } from './nearest.js';
import { printOut } from './print.js';
import { runUsage } from './usage.js';

/** A word behind `tweed`. Its code is loaded when it is used, and only then. */
export interface Command {
  readonly name: string;
  /** What `tweed --help` says of it. */
  readonly summary: string;
  /** Reads the arguments behind the name, does the work and returns the exit status. */
  readonly run: (argv: readonly string[]) => Promise<number>;
  /** Its help text, or that of what is below it. @param words its name first */
  readonly help: (words: readonly string[]) => Promise<string>;
}

/** In the order of the help text. */
export const commands: readonly Command[] = [
  {
    name: 'run',
    summary: "run this host's daemon, with flanneld's options",
    run: async (argv) => (await import('./commands/run.js')).runDaemonCommand('tweed run', argv),
    help: async () => {
      const { runFlags } = await import('./flag-table.js');
      return runUsage('tweed run', runFlags);
    },
  },
  {
    name: 'status',
    summary: 'show the lease, the peers and their traffic, drops and features of the running daemon',
    run: async (argv) => (await import('./commands/status.js')).runStatusCommand(argv),
    help: async () => (await import('./commands/status.js')).statusUsage(),
  },
  ofYargs('top', 'watch what flows now: rates of each peer, drops by reason', () => import('./commands/top.js')),
  ofYargs(
    'ping',
    'probe the way to a host, a subnet or a container, and say which half of it fails',
    () => import('./commands/ping.js'),
  ),
  ofYargs(
    'test',
    'probe the way from this host to every peer, both halves and at full size',
    () => import('./commands/test.js'),
  ),
  ofYargs(
    'doctor',
    'examine this host: device, rights, port, forwarding, firewall, MTU, kernel, registry, clock',
    () => import('./commands/doctor.js'),
  ),
  ofYargs(
    'report',
    'gather what somebody needs who is to help, without secrets, in one file',
    () => import('./commands/report.js'),
  ),
  ofYargs(
    'network',
    'show, change or check the network configuration of the cluster',
    () => import('./commands/network.js'),
  ),
  ofYargs('leases', 'list the subnets that are leased, and to whom', () => import('./commands/leases.js')),
  ofYargs(
    'config',
    'print the options of the running daemon, and where each came from',
    () => import('./commands/config.js'),
  ),
  ofYargs('log-level', 'show or change how much the running daemon logs', () => import('./commands/log-level.js')),
  ofYargs(
    'docker-opts',
    "write Docker's options for this host's subnet to a file, as mk-docker-opts.sh does",
    () => import('./commands/docker-opts.js'),
  ),
  ofYargs(
    'lab',
    'several hosts on this machine, in network namespaces, to try and to test',
    () => import('./commands/lab.js'),
  ),
  {
    name: 'bench',
    summary: 'measure what a tunnel costs here, or compare two runs',
    run: async (argv) => (await import('./commands/bench.js')).runBenchCommand(argv),
    help: async () => (await import('./commands/bench.js')).benchUsage,
  },
  {
    name: 'completion',
    summary: "print bash's completion of this command line: source <(tweed completion)",
    run: async () => {
      const [{ bashCompletion }, { collectPages }] = await Promise.all([
        import('./manual/completion.js'),
        import('./manual/pages.js'),
      ]);
      printOut(bashCompletion(await collectPages(listedCommands())));
      return 0;
    },
    help: async () => 'Usage: tweed completion\n',
  },
];

// Each command has other arguments; yargs checks them against the builder.
// biome-ignore lint/suspicious/noExplicitAny: so it is in the signature of yargs' own `command`
type AnyModule = CommandModule<object, any>;

function ofYargs(name: string, summary: string, load: () => Promise<{ readonly command: AnyModule }>): Command {
  const run = async (argv: readonly string[]) => {
    const [{ runByYargs }, { command }] = await Promise.all([import('./by-yargs.js'), load()]);
    return runByYargs({ ...command, describe: summary }, [name, ...argv]);
  };
  const help = async (words: readonly string[]) => {
    const [{ helpByYargs }, { command }] = await Promise.all([import('./by-yargs.js'), load()]);
    return helpByYargs({ ...command, describe: summary }, words);
  };
  return { name, summary, run, help };
}

/** The commands that there are here: the benchmark is one where it is built. */
export function listedCommands(): readonly Command[] {
  return commands.filter(({ name }) => name !== 'bench' || existsSync(benchProgram));
}

/** The text of `tweed --help`. */
export function tweedUsage(): string {
  const listed = listedCommands();
  const width = Math.max(...listed.map(({ name }) => name.length));
  return [
    'Usage: tweed <command>',
    '',
    'An overlay network for containers: flannel’s udp backend, faster.',
    '',
    ...listed.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    '',
    'tweed <command> --help tells the options of a command; tweed --version the version.',
    '',
  ].join('\n');
}

/** What to say of a word that is no command. */
export function unknownCommand(word: string): string {
  if (word.startsWith('-')) return `${word}: name a command first; tweed --help lists them`;
  const close = nearest(
    word,
    commands.map(({ name }) => name),
  );
  return `unknown command ${word}; ${close === null ? '' : `did you mean ${close}? `}tweed --help lists them`;
}
