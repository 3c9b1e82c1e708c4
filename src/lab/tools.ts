import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { LabError } from './errors.js';

/** Folders that hold ip and iptables but are not in every user's PATH. */
const systemFolders = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

export async function isInstalled(program: string): Promise<boolean> {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...systemFolders];
  for (const folder of folders) {
    try {
      await access(join(folder, program), constants.X_OK);
      return true;
    } catch {} // not in this one
  }
  return false;
}

/** @throws LabError that names every program that is missing. */
export async function requirePrograms(programs: readonly string[]): Promise<void> {
  const missing: string[] = [];
  for (const program of programs) if (!(await isInstalled(program))) missing.push(program);
  if (missing.length > 0) {
    throw new LabError(
      'LAB_TOOLS',
      `not installed: ${missing.join(', ')}; run \`npm run lab\`, which installs what the lab needs, or install them yourself`,
    );
  }
}

export function requireRoot(): void {
  if (process.getuid?.() !== 0) {
    throw new LabError('LAB_ROOT', 'network namespaces need root; run the command again with sudo');
  }
}
