/**
 * Takes secrets out of a text that leaves the host.
 *
 * Two nets, for either alone has holes: what is known to be secret here is taken out wherever it stands, in the writings that
 * it may have; and whatever looks like a secret, by its name or by its form, goes too. What is too much goes as well: a
 * report with a gap is of use, one with a password is not.
 */
import { REDACTED, redactUrls } from '../../base/redact.js';

/** What a value is called that nobody else is to see. */
const NAME =
  '(?:pass(?:word|wd|phrase)|secret|token|psk|credentials?|(?:private|preshared|pre-shared|api|access)[ _-]?key)';
/** A string in quotes, also one inside of another string, or a word. */
const VALUE = String.raw`(?:"(?:[^"\\]|\\.)*"|'[^']*'|\\+"(?:[^"\\]|\\+[^"\\])*\\*"|[^\s,;}]+)`;

/** Both bounded, so that a long line takes no time by its square. */
const NAMED = new RegExp(String.raw`([\w.-]{0,64}${NAME}[\w.-]{0,64}\\*["']?\s{0,8}[:=]\s{0,8})${VALUE}`, 'gi');
const FLAG = new RegExp(String.raw`(--?[\w-]{0,64}${NAME}\s{1,8})${VALUE}`, 'gi');
const HEADER =
  /((?:authorization|cookie)\\*["']?\s{0,8}[:=]\s{0,8}\\*["']?(?:(?:basic|bearer|negotiate)\s+)?)[^\s"'\\]+/gi;
const PEM = /-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|$)/g;
/** Three parts of base64url, the first of which begins a JSON object. */
const JSON_WEB_TOKEN = /\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*/g;

/** A function that takes secrets out. @param known those of this host; an empty one is none */
export function secretFilter(known: readonly string[]): (text: string) => string {
  const writings = [...new Set(known.flatMap(writingsOf))].sort((a, b) => b.length - a.length);
  return (text) => {
    let clean = text;
    for (const writing of writings) clean = without(clean, writing);
    return redactUrls(
      clean
        .replace(PEM, REDACTED)
        .replace(HEADER, `$1${REDACTED}`)
        .replace(NAMED, `$1${REDACTED}`)
        .replace(FLAG, `$1${REDACTED}`)
        .replace(JSON_WEB_TOKEN, REDACTED),
    );
  };
}

/** As it is, and as it stands in JSON, in a URL, in base64 and, a key of 32 bytes, in hexadecimal (WireGuard's own interface). */
function writingsOf(secret: string): string[] {
  const plain = secret.trim();
  if (plain === '') return [];
  const bytes = Buffer.from(plain, 'base64');
  const isKey = bytes.length === 32 && bytes.toString('base64') === plain;
  return [
    plain,
    JSON.stringify(plain).slice(1, -1),
    encodeURIComponent(plain),
    Buffer.from(plain).toString('base64'),
    ...(isKey ? [bytes.toString('hex')] : []),
  ];
}

/** Below this a secret may be part of any word. */
const SHORT = 6;

function without(text: string, secret: string): string {
  if (secret.length >= SHORT) return text.replaceAll(secret, REDACTED);
  const literal = secret.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&');
  return text.replace(new RegExp(`(?<![\\p{L}\\p{N}])${literal}(?![\\p{L}\\p{N}])`, 'gu'), REDACTED);
}

/** Every string of a JSON value that stands under a name of a secret, however deep. @param value from `parseJson` */
export function secretsIn(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, member]) =>
    typeof member === 'string' ? (isSecretName(name) ? [member] : []) : secretsIn(member),
  );
}

/** Whether a value of that name is one that nobody else is to see. */
export function isSecretName(name: string): boolean {
  return new RegExp(NAME, 'i').test(name);
}
