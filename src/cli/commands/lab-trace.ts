import { writeFile } from 'node:fs/promises';
import type { Argv, CommandModule } from 'yargs';
import { TweedError } from '../../base/errors.js';
import { Lab } from '../../lab/lab.js';
import { htmlOfTrace } from '../../lab/trace/html.js';
import { traceable } from '../../lab/trace/places.js';
import { formatTrace } from '../../lab/trace/text.js';
import { trace } from '../../lab/trace/trace.js';
import { printText } from '../print.js';

interface TraceArguments {
  readonly name: string;
  readonly from: string;
  readonly to: string;
  readonly tcp?: number;
  readonly udp?: number;
  readonly size?: number;
  readonly family?: 4 | 6;
  readonly listen: boolean;
  readonly back: boolean;
  readonly html?: string;
}

/** `tweed lab trace A B`: one packet through every device on its way. */
export const labTraceCommand: CommandModule<{ name: string }, TraceArguments> = {
  command: 'trace <from> <to>',
  describe: 'Follow one packet through every device on its way: trace host1/c1 host2/c1 --back',
  builder: (yargs) =>
    yargs
      .positional('from', { type: 'string', demandOption: true, describe: 'A place: host1/c1, host1, internet' })
      .positional('to', { type: 'string', demandOption: true, describe: 'A place, or an address' })
      .option('tcp', {
        type: 'number',
        describe: 'Begin a connection to this port; without --size the SYN is followed',
      })
      .option('udp', { type: 'number', describe: 'Send a datagram to this port; without both it is a ping' })
      .option('size', { type: 'number', describe: 'Length of the packet in bytes, its IP header included' })
      .option('family', { choices: [4, 6] as const, describe: 'By IPv4 or IPv6 (what the place has)' })
      .option('listen', { type: 'boolean', default: false, describe: 'Let something listen at the port meanwhile' })
      .option('back', { type: 'boolean', default: false, describe: 'Tell the way of the answer as well' })
      .option('html', { type: 'string', describe: 'Write a page with a picture to this file' })
      .conflicts('tcp', 'udp') as unknown as Argv<TraceArguments>,
  handler: async ({ name, from, to, tcp, udp, size, family, listen, back, html }) => {
    const port = tcp ?? udp;
    if (port !== undefined && (!Number.isInteger(port) || port < 1 || port > 65_535)) {
      throw new TweedError('LAB_OPTION', `port ${port} is none; choose one from 1 to 65535`);
    }
    const protocol = tcp !== undefined ? 'tcp' : udp !== undefined ? 'udp' : 'icmp';
    const lab = await Lab.find(name);
    try {
      const report = await trace(traceable(lab), { from, to, protocol, port, size, family, listen, back });
      printText(`${formatTrace(report)}\n`);
      if (html !== undefined) {
        await writeFile(html, htmlOfTrace(report));
        printText(`\nthe page: ${html}\n`);
      }
      if (report.verdict.outcome === 'stopped' || report.verdict.outcome === 'refused') process.exitCode = 1;
    } finally {
      await lab.close();
    }
  },
};
