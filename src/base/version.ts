import { readFileSync } from 'node:fs';
import { parseJson } from './json.js';

const manifest = new URL('../../package.json', import.meta.url);

/** tweed's version, as package.json says. */
export const version = (parseJson(readFileSync(manifest, 'utf8')) as { version: string }).version;
