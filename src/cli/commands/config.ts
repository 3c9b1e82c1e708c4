import type { CommandModule } from 'yargs';
import type { Setting } from '../../observe/settings.js';
import { daemonSettings } from '../../operator/status-client.js';
import { ENVIRONMENT_FILE, readEnvironmentFile } from '../known-flags.js';
import { printJson, printText } from '../print.js';
import { renderSettings, settingsAsJson } from '../print-config.js';
import { callersNamespace, type DaemonChoice, daemonChoiceOptions, jsonOption } from './shared.js';

export const command: CommandModule<object, DaemonChoice & { json: boolean }> = {
  command: 'config',
  builder: (args) => args.option('json', jsonOption).options(daemonChoiceOptions),
  handler: async ({ json, 'run-dir': runDir, ...choice }) => {
    const told = await daemonSettings(runDir, { ...choice, namespace: callersNamespace(runDir) });
    const settings = withFile(told, await readEnvironmentFile());
    if (json) printJson(settingsAsJson(settings));
    else printText(renderSettings(settings));
  },
};

/** A variable that the environment file sets to the same value came from there. */
export function withFile(settings: readonly Setting[], file: Readonly<Record<string, string | undefined>>): Setting[] {
  return settings.map((setting) => {
    const { from, value } = setting;
    const isSame =
      file[from] !== undefined &&
      (file[from] === [value].flat().join(',') || value === '***' || file[from] === String(value));
    return isSame ? { ...setting, from: `${from} in ${ENVIRONMENT_FILE}` } : setting;
  });
}
