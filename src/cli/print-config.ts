import type { Setting } from '../observe/settings.js';
import type { RunRequest } from './options.js';

/** Every value in force and where it came from, as a table or as JSON. Passwords are not in it. */
export function renderConfig(request: RunRequest): string {
  const settings = effectiveSettings(request);
  return request.json ? `${JSON.stringify(settingsAsJson(settings), null, 2)}\n` : renderSettings(settings);
}

export function settingsAsJson(settings: readonly Setting[]): Record<string, Omit<Setting, 'name'>> {
  return Object.fromEntries(settings.map(({ name, value, from }) => [name, { value, from }]));
}

export function renderSettings(settings: readonly Setting[]): string {
  const rows = settings.map(({ name, value, from }) => [
    name,
    Array.isArray(value) ? value.join(', ') : String(value),
    from,
  ]);
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map(([name, value, from]) => `${name.padEnd(widths[0])}  ${value.padEnd(widths[1])}  ${from}\n`).join('');
}

/** Every value in force, ready to be shown: passwords are hidden. */
export function effectiveSettings({ flags, options }: RunRequest): Setting[] {
  const settings: Setting[] = [];
  for (const { flag, value, origin } of flags.values()) {
    if (flag.group === 'kubernetes' || flag.group === 'command' || (flag.hidden && origin === 'default')) continue;
    const from = { default: 'default', flag: `-${flag.name}`, environment: flag.env as string }[origin];
    const shown = typeof value === 'string' && value !== '' ? (flag.show?.(value) ?? value) : value;
    if (flag.name === 'log-level' && value === '') {
      const verbosity = flags.get('v')?.origin;
      settings.push({ name: flag.name, value: options.logLevel, from: verbosity === 'default' ? 'default' : '-v' });
    } else settings.push({ name: flag.name, value: shown, from });
  }
  return settings;
}
