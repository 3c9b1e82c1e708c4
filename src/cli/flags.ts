import { TweedError } from '../base/errors.js';
import { nearest } from './nearest.js';

/**
 * Flags in the style of Go's `flag` package, which is what flanneld's command line is.
 *
 * `-name` and `--name` mean the same; a value follows as `=value` or as the next argument; a boolean stands alone or
 * takes its value with `=` only. yargs cannot read that, so the table of flags is read here; and where yargs reads the
 * arguments, the values are made of what it found.
 */

export type FlagValue = string | number | boolean | readonly string[];

interface FlagBase {
  readonly name: string;
  readonly help: string;
  /** Environment variable used when the flag is not given and the variable is not empty. */
  readonly env?: string;
  /** Whose flag it is, for the help text; `kubernetes` flags are known only to be refused. */
  readonly group: 'flannel' | 'logging' | 'tweed' | 'kubernetes' | 'command';
  /** How a value is shown; passwords and URLs that may hold one are not shown as they are. */
  readonly show?: (text: string) => string;
  /** Left out of the help text. */
  readonly hidden?: boolean;
  /** What stands for the value in the help text. */
  readonly placeholder?: string;
}

/** The rule that a value breaks, such as "must be 1 to 1439", or null when it keeps them all. */
type Rule<Value> = (value: Value) => string | null;

export type Flag =
  | (FlagBase & { readonly kind: 'string'; readonly default: string; readonly rule?: Rule<string> })
  | (FlagBase & { readonly kind: 'integer'; readonly default: number; readonly rule?: Rule<number> })
  | (FlagBase & { readonly kind: 'boolean'; readonly default: boolean; readonly rule?: Rule<boolean> })
  | (FlagBase & { readonly kind: 'strings'; readonly default: readonly string[]; readonly rule?: Rule<string> });

/** Where a value came from: `default`, the flag as it was written, or the variable's name. */
export interface Resolved {
  readonly flag: Flag;
  readonly value: FlagValue;
  readonly origin: 'default' | 'flag' | 'environment';
}

export type ResolvedFlags = ReadonlyMap<string, Resolved>;

/** The command line or an environment variable cannot be used. */
export class OptionError extends TweedError {
  constructor(message: string) {
    super('BAD_OPTION', message);
  }
}

/** `-h`, `-help` or `--help` was given. */
export class HelpRequested extends Error {}

/** What was written behind each flag, in order; a flag without a value counts as `true`. */
export type GivenFlags = ReadonlyMap<string, readonly string[]>;

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads arguments, then the environment, then defaults, for every flag of the table.
 *
 * @throws OptionError naming the flag or variable, what is wrong with it, and the rule.
 * @throws HelpRequested
 */
export function resolveFlags(table: readonly Flag[], argv: readonly string[], environment: Environment): ResolvedFlags {
  return resolveValues(table, readArguments(table, argv), environment);
}

/** As {@link resolveFlags}, from arguments that were read already. @throws OptionError */
export function resolveValues(table: readonly Flag[], given: GivenFlags, environment: Environment): ResolvedFlags {
  const resolved = new Map<string, Resolved>();
  for (const flag of table) {
    const { name, env } = flag;
    const texts = given.get(name) ?? [];
    const variable = env === undefined ? undefined : environment[env];
    if (texts.length > 0) resolved.set(name, { flag, value: valueIn(flag, texts, `-${name}`), origin: 'flag' });
    else if (variable) resolved.set(name, { flag, value: valueIn(flag, [variable], `${env}`), origin: 'environment' });
    else resolved.set(name, { flag, value: flag.default, origin: 'default' });
  }
  return resolved;
}

/** All values of a list; else the last, which may not hide that an earlier one is wrong. */
function valueIn(flag: Flag, texts: readonly string[], source: string): FlagValue {
  const values = texts.map((text) => parseValue(flag, text, source));
  return flag.kind === 'strings' ? (values as string[]) : values[values.length - 1];
}

function readArguments(table: readonly Flag[], argv: readonly string[]): GivenFlags {
  const known = new Map(table.map((flag) => [flag.name, flag]));
  const given = new Map<string, string[]>();
  for (let index = 0; index < argv.length; index++) {
    const argument = argv[index];
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(argument);
    if (match === null) throw new OptionError(strayArgument(argument, argv[index - 1], known));
    const name = match[1];
    const flag = known.get(name);
    if (flag === undefined) {
      if (name === 'h' || name === 'help') throw new HelpRequested();
      throw new OptionError(`unknown flag -${name}${suggestion(name, [...known.keys()])}`);
    }
    let text: string | undefined = match[2];
    if (text === undefined) {
      if (flag.kind === 'boolean') text = 'true';
      else if (index + 1 < argv.length) text = argv[++index];
      else throw new OptionError(`-${name} needs a value; write it as -${name}=VALUE`);
    }
    given.set(name, [...(given.get(name) ?? []), text]);
  }
  return given;
}

function strayArgument(argument: string, previous: string | undefined, known: Map<string, Flag>): string {
  const before = previous === undefined ? undefined : known.get(previous.replace(/^--?/, ''));
  if (before?.kind === 'boolean') {
    return `unexpected argument "${argument}": -${before.name} takes its value after =, as in -${before.name}=${argument}`;
  }
  return `unexpected argument "${argument}"; only flags are taken here (see --help)`;
}

function suggestion(name: string, known: readonly string[]): string {
  const close = nearest(name, known);
  return close === null ? '; see --help for those there are' : `; did you mean -${close}?`;
}

/** One value, as text, to the flag's type. `source` is what the user wrote it behind, for the error message. */
function parseValue(flag: Flag, text: string, source: string): FlagValue {
  const complain = (rule: string): never => {
    throw new OptionError(`${source}=${flag.show?.(text) ?? text}: the value ${rule}`);
  };
  switch (flag.kind) {
    case 'boolean': {
      const value = parseGoBoolean(text) ?? complain('must be true or false');
      return checked(value, flag.rule, complain);
    }
    case 'integer': {
      const value = parseGoInteger(text) ?? complain('must be a whole number');
      return checked(value, flag.rule, complain);
    }
    case 'string':
    case 'strings':
      // Where nothing is the default, an empty text says "not set", as with Go's flags; anywhere else it is a value.
      return text === '' && flag.default === '' ? text : checked(text, flag.rule, complain);
  }
}

function checked<Value>(value: Value, rule: Rule<Value> | undefined, complain: (rule: string) => never): Value {
  const broken = rule?.(value) ?? null;
  return broken === null ? value : complain(broken);
}

/** What Go's strconv.ParseBool takes. */
function parseGoBoolean(text: string): boolean | null {
  if (/^(1|t|T|true|TRUE|True)$/.test(text)) return true;
  if (/^(0|f|F|false|FALSE|False)$/.test(text)) return false;
  return null;
}

/** What Go's strconv.ParseInt with base 0 takes, as far as a double holds it: decimal, 0x, 0o, 0b, and 0 for octal. */
function parseGoInteger(text: string): number | null {
  const match = /^([+-]?)(0[xX][\da-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|[1-9]\d*|0)$/.exec(text);
  if (match === null) return null;
  const digits = match[2];
  const value = Number(/^0[0-7]/.test(digits) ? `0o${digits.slice(1)}` : digits);
  if (!Number.isSafeInteger(value)) return null;
  return match[1] === '-' && value !== 0 ? -value : value;
}
