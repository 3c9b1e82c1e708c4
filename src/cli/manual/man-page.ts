import type { Flag } from '../flags.js';
import { flagHeadings, helpOf } from '../usage.js';
import type { HelpPage } from './pages.js';

/**
 * tweed(8) as roff, made of the table of the daemon's options and of the other commands' help texts.
 *
 * @param version of the package, for the page's foot
 */
export function manPage(pages: readonly HelpPage[], runFlags: readonly Flag[], version: string): string {
  const lines = [
    `.TH TWEED 8 "" "tweed ${version}" "System Administration"`,
    ...section('NAME', [String.raw`tweed \- overlay network for container hosts, in place of flanneld`]),
    ...section('SYNOPSIS', ['.B tweed', '.I command', escaped('[options]')]),
    ...section('DESCRIPTION', [
      escaped(
        'Every host runs one daemon, tweed run. It leases a subnet in etcd and carries the packets of its containers to',
      ),
      escaped(
        'the other hosts. It takes flanneld’s options and environment, keeps flanneld’s keys, and writes the same files.',
      ),
    ]),
    ...section(
      'COMMANDS',
      pages.flatMap(({ words, summary }) => entry(`tweed ${words.join(' ')}`, summary)),
    ),
    ...section('OPTIONS OF TWEED RUN', [
      escaped('-name and --name mean the same; a value follows behind = or as the next word.'),
      ...flagHeadings.flatMap(([group, heading]) => [
        `.SS "${escaped(heading)}"`,
        ...runFlags.filter((flag) => flag.group === group && !flag.hidden).flatMap(optionEntry),
      ]),
    ]),
    ...section(
      'OPTIONS OF THE OTHER COMMANDS',
      pages
        .filter(({ words }) => words[0] !== 'run')
        .flatMap(({ words, text }) => [
          `.SS "tweed ${words.join(' ')}"`,
          '.EX',
          ...text.trimEnd().split('\n').map(escaped),
          '.EE',
        ]),
    ),
    ...section(
      'FILES',
      files.flatMap(([name, about]) => entry(name, about)),
    ),
    ...section(
      'EXIT STATUS',
      statuses.flatMap(([status, about]) => entry(status, about)),
    ),
    ...section('SIGNALS', [
      escaped('SIGTERM and SIGINT end the daemon, a second one at once. SIGUSR1 writes its status to the log.'),
    ]),
    ...section('SEE ALSO', ['.BR ip (8),', '.BR iptables (8),', '.BR etcdctl (1),', escaped('/usr/share/doc/tweed')]),
  ];
  return `${lines.join('\n')}\n`;
}

const files: readonly (readonly [string, string])[] = [
  ['/etc/tweed.env', 'the service’s environment: FLANNELD_… and TWEED_… variables'],
  ['/run/flannel/subnet.env', 'what the daemon tells container engines: network, subnet, MTU, masquerading'],
  ['/run/tweed/tweed.sock', 'the status socket'],
];

const statuses: readonly (readonly [string, string])[] = [
  ['0', 'done; the daemon was asked to stop'],
  ['1', 'it did not work; one line on standard error says why'],
  ['2', 'the command line or the environment cannot be used'],
  ['128 + n', 'the daemon was ended at once by a second signal n'],
];

function section(title: string, lines: readonly string[]): string[] {
  return [`.SH ${title}`, ...lines];
}

function entry(term: string, about: string): string[] {
  return ['.TP', `.B ${escaped(term)}`, escaped(about)];
}

function optionEntry(flag: Flag): string[] {
  const value = flag.kind === 'boolean' ? '' : ` ${flag.placeholder ?? 'VALUE'}`;
  const variable = flag.env === undefined ? '' : ` [${flag.env}]`;
  return entry(`-${flag.name}${value}`, `${helpOf(flag)}${variable}`);
}

/** Text as roff shows it: a dash is a dash, and no line is a request. */
function escaped(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('"', '\\(dq')
    .replace(/^(?=[.'])/, '\\&');
}
