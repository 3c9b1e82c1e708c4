import { TweedError } from '../src/base/errors.js';

/** Something of the benchmark that cannot go on; the message says what to do. */
export class BenchError extends TweedError {
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(`BENCH_${code}`, message, options);
  }
}
