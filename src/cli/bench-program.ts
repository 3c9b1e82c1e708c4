import { fileURLToPath } from 'node:url';
import { packageFile } from '../base/package.js';

/** The benchmark is no part of what hosts need; it is compiled beside the product, by its first run. */
export const benchProgram = fileURLToPath(packageFile('dist-bench/bench/main.js'));
