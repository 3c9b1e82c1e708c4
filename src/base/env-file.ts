const ASSIGNMENT = /^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)$/;
const QUOTED = /^(?:"([^"]*)"|'([^']*)')\s*(?:#.*)?$/;
const COMMENT = /(?:^|\s)#/;

/**
 * The variables of a file such as subnet.env, the last value of each.
 *
 * Forgiving, for people edit such files: `export`, either kind of quotes, blanks around the equals sign, comments and CRLF
 * are fine, an unquoted value may hold blanks, and a line that assigns nothing is passed over. Nothing is expanded.
 */
export function parseEnvFile(text: string): ReadonlyMap<string, string> {
  const variables = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const [, name, rest = ''] = ASSIGNMENT.exec(line) ?? [];
    if (name !== undefined) variables.set(name, textOf(rest));
  }
  return variables;
}

function textOf(rest: string): string {
  const quoted = QUOTED.exec(rest);
  if (quoted !== null) return quoted[1] ?? quoted[2] ?? '';
  const comment = rest.search(COMMENT);
  return (comment < 0 ? rest : rest.slice(0, comment)).trimEnd();
}
