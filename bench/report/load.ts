import { readFile } from 'node:fs/promises';
import { messageOf } from '../../src/base/errors.js';
import { BenchError } from '../errors.js';
import { type Results, SCHEMA } from '../harness/results.js';

/** Reads a results file. @throws BenchError when it is none, or one of another version */
export async function loadResults(path: string): Promise<Results> {
  let content: unknown;
  try {
    content = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new BenchError('RESULTS', `cannot read ${path}: ${messageOf(error)}; give a file from results/`, {
      cause: error,
    });
  }
  const schema = typeof content === 'object' && content !== null && 'schema' in content ? content.schema : undefined;
  if (schema !== SCHEMA) {
    throw new BenchError(
      'RESULTS',
      `${path} has the schema ${JSON.stringify(schema)}, not ${SCHEMA}; measure again with this version`,
    );
  }
  return content as Results;
}
