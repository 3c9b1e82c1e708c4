import { JsonError, PROGRAM_LIMITS, parseJson } from '../../base/json.js';
import { membersOf } from '../../base/members.js';

/**
 * What `nft -j list …` printed: objects with one member each, such as `chain` or `rule`. Rules have a list of expressions,
 * each an object; the caller knows what else to expect.
 *
 * @throws JsonError
 */
export function nftObjects<Listed extends object>(text: string): readonly Listed[] {
  const listed = membersOf(parseJson(text, PROGRAM_LIMITS))?.get('nftables');
  if (!Array.isArray(listed)) throw new JsonError('it has no list called nftables');
  return listed.filter(isWhole) as Listed[];
}

/** nft prints an expression that it does not know as a plain text; it says nothing that is compared. */
function isWhole(value: unknown): boolean {
  const members = membersOf(value);
  if (members === null) return false;
  for (const name of ['chain', 'rule']) {
    if (members.has(name) && membersOf(members.get(name)) === null) return false;
  }
  const rule = membersOf(members.get('rule'));
  return rule === null || Array.isArray(rule.get('expr'));
}
