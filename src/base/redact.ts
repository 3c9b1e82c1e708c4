/** What stands where a password was. */
export const REDACTED = '***';

/**
 * The text with the password of every URL in it replaced, or the lone user name, which may be a token.
 *
 * User information is taken to reach up to the last @, since a password may hold characters that nobody escaped.
 */
export function redactUrls(text: string): string {
  // Word by word and with plain searches: one expression for all of it takes time by the square of the text's length.
  return text.replace(/\S+/g, (word) =>
    word
      .split(/,(?=[a-z][a-z\d+.-]*:\/\/)/i)
      .map(redactUrl)
      .join(','),
  );
}

function redactUrl(text: string): string {
  const start = text.indexOf('://') + 3;
  const end = text.lastIndexOf('@');
  if (start < 3 || end < start) return text;
  const user = text.slice(start, end);
  const colon = user.indexOf(':');
  const shown = colon < 0 ? REDACTED : `${user.slice(0, colon)}:${REDACTED}`;
  return `${text.slice(0, start)}${shown}${text.slice(end)}`;
}
