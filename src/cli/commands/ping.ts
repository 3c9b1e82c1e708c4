import type { CommandModule } from 'yargs';
import { TweedError } from '../../base/errors.js';
import { readHostNames } from '../../operator/host-names.js';
import { type PingReport, pingPeer, pingPeers, probeHalf } from '../../operator/ping/ping.js';
import { renderHalf, renderPing } from '../../operator/ping/ping-text.js';
import { endOf, findTarget, resolveTarget } from '../../operator/ping/target.js';
import { fetchStatus } from '../../operator/status-client.js';
import { exitCodes } from '../exit.js';
import { OptionError } from '../flags.js';
import { printJson, printText } from '../print.js';
import { type DaemonChoice, daemonChoiceOptions, jsonOption } from './shared.js';

type Arguments = DaemonChoice & { target: string | undefined; count: number; all: boolean; json: boolean };

export const command: CommandModule<object, Arguments> = {
  command: 'ping [target]',
  builder: (args) =>
    args
      .positional('target', {
        type: 'string',
        describe: "a peer's public address or name, its subnet, or an address in the overlay",
      })
      .option('all', { type: 'boolean', default: false, describe: 'every peer, one after the other' })
      .option('count', { type: 'number', alias: 'c', default: 3, describe: 'probes of each half and size' })
      .option('json', jsonOption)
      .options(daemonChoiceOptions),
  handler: async ({ target, count, all, json, 'run-dir': runDir, ...choice }) => {
    if (!Number.isInteger(count) || count < 1 || count > 100)
      throw new OptionError('--count: the value must be 1 to 100');
    if ((target === undefined) !== all)
      throw new OptionError('ping: name a host, a subnet or a container, or say --all');
    const status = () => fetchStatus(runDir, { ...choice, namespace: 'own' });
    const names = await readHostNames();
    if (target === undefined) {
      const reports: PingReport[] = [];
      for await (const report of pingPeers(status, count, 1)) {
        reports.push(report);
        if (!json) printText(`${renderPing(report, names)}\n`);
      }
      if (json) printJson(reports);
      else printText(reports.length === 0 ? 'there are no peers\n' : '');
      if (!reports.every(({ ok }) => ok)) process.exitCode = exitCodes.failed;
      return;
    }
    const text = await resolveTarget(target);
    const before = await status();
    const found = findTarget(text, before);
    if (found.kind === 'unknown') throw new TweedError('NO_ROUTE', `${found.reason}; "tweed status" lists the peers`);
    if (found.kind === 'own') {
      const address = text.includes('/') ? endOf({ subnet: found.subnet }, before.backend?.type ?? '') : text;
      const half = await probeHalf(address, before.backend?.mtu, count);
      const ok = half.small.received > 0 && (half.full === null || half.full.received > 0);
      if (json) printJson({ own: found.subnet, ...half, ok });
      else
        printText(renderHalf(`${target} is in ${found.subnet}, this host's own subnet: no overlay is involved`, half));
      if (!ok) process.exitCode = exitCodes.failed;
      return;
    }
    const report = await pingPeer(status, found.peer, found.overlayAddress, count);
    if (json) printJson(report);
    else printText(renderPing(report, names));
    if (!report.ok) process.exitCode = exitCodes.failed;
  },
};
