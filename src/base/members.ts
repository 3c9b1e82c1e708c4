/**
 * The members of a JSON object by their names in lower case, as Go's encoding/json finds them: of two names that differ
 * only in case the later one counts. Null when the value is no object.
 */
export function membersOf(value: unknown): ReadonlyMap<string, unknown> | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  return new Map(Object.entries(value).map(([name, member]) => [name.toLowerCase(), member]));
}
