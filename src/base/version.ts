import { readFileSync } from 'node:fs';
import { packageFile } from './package.js';

/** tweed's version, as package.json says. */
export const version = (JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string }).version;
