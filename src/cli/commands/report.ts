import { writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { CommandModule } from 'yargs';
import { plural } from '../../base/plural.js';
import { version } from '../../base/version.js';
import { makeReport } from '../../operator/report/report.js';
import { runFlags } from '../flag-table.js';
import { ENVIRONMENT_FILE, knownFlags, readSources } from '../known-flags.js';
import { daemonOptions } from '../options.js';
import { printOut, printText } from '../print.js';
import { withDaemonFlags } from '../shared-options.js';
import { hostFlagNames } from './doctor.js';
import { runDirectoryOption } from './shared.js';

export const command: CommandModule<object, { output: string }> = {
  command: 'report',
  builder: (args) =>
    withDaemonFlags(args, hostFlagNames).option('output', {
      type: 'string',
      requiresArg: true,
      alias: 'o',
      default: '',
      describe: 'file to write, - for standard output (default: tweed-report-HOST-TIME.tar.gz here)',
    }),
  handler: async ({ output, ...args }) => {
    const words = args as unknown as Record<string, unknown>;
    const sources = await readSources(String(words['run-dir'] ?? runDirectoryOption.default));
    const options = daemonOptions(knownFlags(words, hostFlagNames, runFlags, sources));
    const at = Date.now();
    const time = new Date(at).toISOString().replace(/\.\d+/, '').replace(/[-:]/g, '');
    const name = `tweed-report-${os
      .hostname()
      .replace(/[^\w.-]/g, '_')
      .slice(0, 40)}-${time}`;
    const { archive, parts } = await makeReport(
      {
        options,
        version,
        environmentFile: ENVIRONMENT_FILE,
        wireguardKeyFile: options.wireguard.keyFile,
        environment: process.env,
      },
      name,
      at,
    );
    if (output === '-') {
      printOut(archive);
      return;
    }
    const file = path.resolve(output === '' ? `${name}.tar.gz` : output);
    // For root's eyes: it is the operator who decides to whom it goes. An existing file is not written over.
    await writeFile(file, archive, { mode: 0o600, flag: 'wx' });
    const amiss = parts.filter(({ remark }) => remark !== '').map(({ file: part, remark }) => `  ${part}: ${remark}\n`);
    printText(
      `${file}, ${plural(parts.length, 'file')}, ${Math.ceil(archive.length / 1024)} KiB. Secrets are taken out, addresses and names are not: read it before you give it away.\n${amiss.join('')}`,
    );
  },
};
