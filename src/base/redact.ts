/** What stands where a password was. */
export const REDACTED = '***';

/**
 * The text with the password of every URL in it replaced, or the lone user name, which may be a token.
 *
 * User information is taken to reach up to the last @, since a password may hold characters that nobody escaped.
 */
export function redactUrls(text: string): string {
  const userInformation = /([a-z][a-z\d+.-]*:\/\/)((?:(?!,[a-z][a-z\d+.-]*:\/\/)\S)*)@/gi;
  return text.replace(userInformation, (_, scheme: string, user: string) => {
    const colon = user.indexOf(':');
    return `${scheme}${colon < 0 ? REDACTED : `${user.slice(0, colon)}:${REDACTED}`}@`;
  });
}
