import { type ExecOptions, exec as execOnce } from '../../src/base/exec.js';
import { patient } from '../../src/lab/patience.js';

/** The product's `exec` with the patience of this machine: also the product's own limits are longer where tests give it this. */
export const exec: typeof execOnce = (argv, options: ExecOptions = {}) =>
  execOnce(argv, { ...options, timeoutMs: patient(options.timeoutMs ?? 30_000) });
