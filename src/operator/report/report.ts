import { parseEnvFile } from '../../base/env-file.js';
import { parseJson } from '../../base/json.js';
import { silentLogger } from '../../base/log.js';
import { readTextFile } from '../../base/text-file.js';
import type { DaemonOptions } from '../../daemon/options.js';
import { openRegistry } from '../../subnet/open-registry.js';
import { archiveReport, type GatheredPart, gatherParts } from './bundle.js';
import { type ReportQuestion, reportParts } from './parts.js';
import { isSecretName, secretFilter, secretsIn } from './secrets.js';

export interface Report {
  /** Gzipped tar. */
  readonly archive: Buffer;
  readonly parts: readonly GatheredPart[];
}

/** Where secrets of this host are to be found, so that they can be taken out. */
export interface SecretSources extends ReportQuestion {
  readonly wireguardKeyFile: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

const PREFACE = `A report of tweed on one host, made by "tweed report", to be read by somebody else.

Passwords, tokens, private and preshared keys are taken out (***). Addresses, names of hosts and devices, firewall rules and
lines of the log are in it: read them before you give it away.
`;

/** Looks at this host and at its registry, and changes nothing. @param folder the archive's one; @param at milliseconds since the epoch */
export async function makeReport(sources: SecretSources, folder: string, at: number): Promise<Report> {
  const clean = secretFilter(await knownSecrets(sources));
  const parts = await gatherParts(reportParts(sources), clean);
  return { archive: archiveReport(folder, PREFACE, parts, at), parts };
}

/** Every secret of this host that can be known. What cannot be read cannot be in the report either, but for its form. */
export async function knownSecrets({ options, environment, ...sources }: SecretSources): Promise<string[]> {
  const readText = sources.readText ?? readTextFile;
  const [key, file, config] = await Promise.all([
    readText(sources.wireguardKeyFile).catch(() => ''),
    readText(sources.environmentFile).catch(() => ''),
    configText(options.registry).catch(() => ''),
  ]);
  const named = (variables: Iterable<readonly [string, string | undefined]>) =>
    [...variables].flatMap(([name, value]) => (isSecretName(name) && value ? [value] : []));
  return [
    key,
    options.registry.password ?? '',
    ...named(parseEnvFile(file)),
    ...named(Object.entries(environment)),
    ...(config === '' ? [] : secretsIn(parsed(config))),
  ].filter((secret) => secret.trim() !== '');
}

function parsed(config: string): unknown {
  try {
    return parseJson(config);
  } catch {
    return null; // such a configuration is refused everywhere, and shown as a string
  }
}

async function configText(options: DaemonOptions['registry']): Promise<string> {
  const registry = await openRegistry(options, silentLogger());
  try {
    return (await registry.getConfig()).json ?? '';
  } finally {
    await registry.close();
  }
}
