/** What to type next, as it is typed where this is: in a checkout by npm, elsewhere as the installed program. */
import { existsSync } from 'node:fs';
import { packageFile } from '../base/package.js';
import { defaultLabName } from './names.js';

/** Whether this is a checkout of the project, which installs by itself what it needs. */
export function isCheckout(): boolean {
  return existsSync(packageFile('scripts/lab.mjs'));
}

/** `npm run lab -- trace --name other host1 host2`, or `tweed lab trace …`; the default lab's name is left out. */
export function labWords(name: string, command: string, ...words: readonly string[]): string {
  const program = isCheckout() ? 'npm run lab --' : 'tweed lab';
  return [program, command, ...(name === defaultLabName ? [] : ['--name', name]), ...words].join(' ');
}

/** What can be done with a lab that is up, a line each. */
export function formatHints(name: string): string {
  const lines = [
    ['who is who', labWords(name, 'status')],
    ['check it', labWords(name, 'test')],
    [
      'look around',
      `${labWords(name, 'exec')} host1/c1 -- ip route     (a host: host1; others: internet, etcd, switch)`,
    ],
    ['learn', labWords(defaultLabName, 'tour')],
    ['follow a packet', labWords(name, 'trace', 'host1/c1', 'host2/c1', '--back')],
    [
      'watch packets',
      `${labWords(name, 'exec')} host1 -- tcpdump -ni flannel0     (on the wire: -ni eth0 udp port 8285)`,
    ],
    ['take it down', labWords(name, 'down')],
  ];
  return lines.map(([what, words]) => `${`${what}:`.padEnd(17)}${words}`).join('\n');
}
