const ASSIGNMENT =
  /^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(?:"([^"]*)"\s*(?:#.*)?|'([^']*)'\s*(?:#.*)?|(.*?)\s*(?:(?<=[\s=])#.*)?)$/;

/**
 * The variables of a file such as subnet.env, the last value of each.
 *
 * Forgiving, for people edit such files: `export`, either kind of quotes, blanks around the equals sign, comments and CRLF
 * are fine, an unquoted value may hold blanks, and a line that assigns nothing is passed over. Nothing is expanded.
 */
export function parseEnvFile(text: string): ReadonlyMap<string, string> {
  const variables = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const [, name, double, single, plain] = ASSIGNMENT.exec(line) ?? [];
    if (name !== undefined) variables.set(name, double ?? single ?? plain ?? '');
  }
  return variables;
}
