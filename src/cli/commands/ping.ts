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

type Arguments = DaemonChoice & {
  target: string | undefined;
  count: number;
  interval: number;
  size: number | undefined;
  flood: boolean;
  all: boolean;
  json: boolean;
};

export const command: CommandModule<object, Arguments> = {
  command: 'ping [target]',
  builder: (args) =>
    args
      .positional('target', {
        type: 'string',
        describe: "a peer's public address or name, its subnet, or an address in the overlay",
      })
      .option('all', { type: 'boolean', default: false, describe: 'every peer, one after the other' })
      .option('count', {
        type: 'number',
        requiresArg: true,
        alias: 'c',
        default: 3,
        describe: 'probes of each half and size',
      })
      .option('interval', {
        type: 'number',
        requiresArg: true,
        alias: 'i',
        default: 0.2,
        describe: 'seconds between two probes',
      })
      .option('size', {
        type: 'number',
        requiresArg: true,
        alias: 's',
        describe: 'bytes of payload, as of ping -s, in place of as many as the MTU allows',
      })
      .option('flood', { type: 'boolean', alias: 'f', default: false, hidden: true })
      .option('json', jsonOption)
      .options(daemonChoiceOptions),
  handler: async ({ target, count, interval, size, flood, all, json, 'run-dir': runDir, ...choice }) => {
    if (!Number.isInteger(count) || count < 1 || count > 100)
      throw new OptionError('--count: the value must be 1 to 100');
    if (!(interval >= 0.01 && interval <= 60)) throw new OptionError('--interval: the value must be 0.01 to 60');
    if (size !== undefined && !(Number.isInteger(size) && size >= 57 && size <= 65_000))
      throw new OptionError('--size: the value must be 57 to 65000; packets of 56 are sent in any case');
    if (flood)
      throw new OptionError(
        '-f: there is no flood here, for it measures the hosts and not the way; take iperf3, or ping -f',
      );
    const probing = { count, intervalMs: interval * 1000, payload: size ?? null };
    if ((target === undefined) !== all)
      throw new OptionError('ping: name a host, a subnet or a container, or say --all');
    const status = () => fetchStatus(runDir, { ...choice, namespace: 'own' });
    const names = await readHostNames();
    if (target === undefined) {
      const reports: PingReport[] = [];
      for await (const report of pingPeers(status, probing, 1)) {
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
      const half = await probeHalf(address, before.backend?.mtu, probing);
      const ok = half.small.received > 0 && (half.full === null || half.full.received > 0);
      if (json) printJson({ own: found.subnet, ...half, ok });
      else
        printText(renderHalf(`${target} is in ${found.subnet}, this host's own subnet: no overlay is involved`, half));
      if (!ok) process.exitCode = exitCodes.failed;
      return;
    }
    const report = await pingPeer(status, found.peer, found.overlayAddress, probing);
    if (json) printJson(report);
    else printText(renderPing(report, names));
    if (!report.ok) process.exitCode = exitCodes.failed;
  },
};
