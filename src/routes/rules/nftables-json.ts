import { JsonError, PROGRAM_LIMITS, parseJson } from '../../base/json.js';

/**
 * What `nft -j list …` printed: objects with one member each, such as `chain` or `rule`. Rules have a list of expressions,
 * each an object; the caller knows what else to expect.
 *
 * @throws JsonError
 */
export function nftObjects<Listed extends object>(text: string): readonly Listed[] {
  const whole = parseJson(text, PROGRAM_LIMITS);
  const listed = isObject(whole) ? whole.nftables : undefined;
  if (!Array.isArray(listed)) throw new JsonError('it has no list called nftables');
  return listed.filter(isWhole) as Listed[];
}

function isWhole(value: unknown): boolean {
  if (!isObject(value)) return false;
  const { chain = {}, rule = { expr: [] } } = value;
  return isObject(chain) && isObject(rule) && Array.isArray(rule.expr);
}

/** With names as they are written, unlike flannel's. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
