import { readFileSync } from 'node:fs';
import { parseJson } from './json.js';
import { packageFile } from './package.js';

/** tweed's version, as package.json says. */
export const version = (parseJson(readFileSync(packageFile('package.json'), 'utf8')) as { version: string }).version;
