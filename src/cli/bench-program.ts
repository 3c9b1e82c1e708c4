import { fileURLToPath } from 'node:url';

/** The benchmark is no part of what hosts need; it is compiled beside the product, by its first run. */
export const benchProgram = fileURLToPath(new URL('../../dist-bench/bench/main.js', import.meta.url));
