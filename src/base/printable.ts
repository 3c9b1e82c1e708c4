/**
 * Text from outside (keys and values of the registry, names, what programs and servers said) on its way to a terminal. A
 * control character there moves the cursor, changes colours or asks the terminal to type; a format character turns the
 * order of what is read. Both are shown by their numbers.
 */

/** C0, DEL and C1 controls, invisible and bidirectional format characters, line separators, halves of surrogate pairs. */
const UNPRINTABLE =
  /[\p{Cc}\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/gu;

const escapeOne = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** One line of text without anything that a terminal would obey. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, escapeOne);
}

/** As {@link printable}, but lines and tabs stay: for a text that a command has put together of several. */
export function printableLines(text: string): string {
  return text.replace(UNPRINTABLE, (character) => (/[\n\t]/.test(character) ? character : escapeOne(character)));
}

/** JSON that means the same and has nothing a terminal would obey; what needs it stands only inside strings. */
export function printableJson(value: unknown, indent = 0): string {
  return printableLines(JSON.stringify(value, null, indent));
}

const SHOWN = 100;

/** A value for a message: as JSON, cut where it is long. It must come from `parseJson`, which bounds its depth. */
export function shown(value: unknown): string {
  const text = printable(JSON.stringify(value) ?? 'undefined');
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}… (${text.length} characters)`;
}
