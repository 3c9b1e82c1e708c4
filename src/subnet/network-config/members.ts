import { membersOf } from '../../base/members.js';
import { shown } from '../../base/printable.js';
import { ConfigError } from '../errors.js';

/** The members of a configuration object; null leaves the default in place, as in Go. */
export class Members {
  readonly #byLowerName: ReadonlyMap<string, unknown>;
  readonly #names: readonly string[];
  readonly #path: string;

  /**
   * @param path what stands before the names in complaints, such as `Backend.`
   * @throws ConfigError when the value is no JSON object.
   */
  constructor(value: unknown, path = '') {
    const members = membersOf(value);
    if (members === null) {
      throw new ConfigError('', 'is no JSON object', 'write an object such as {"Network":"10.5.0.0/16"}');
    }
    this.#byLowerName = members;
    this.#names = Object.keys(value as object);
    this.#path = path;
  }

  /** The member as it was parsed, null included; undefined when it is absent. */
  raw(key: string): unknown {
    return this.#byLowerName.get(key.toLowerCase());
  }

  string(key: string): string | undefined {
    return this.#typed(key, 'a string', (value): value is string => typeof value === 'string');
  }

  boolean(key: string, absent: boolean): boolean {
    return (
      this.#typed(key, 'true or false (no quotes)', (value): value is boolean => typeof value === 'boolean') ?? absent
    );
  }

  /** A whole number of 0 or more. */
  count(key: string): number | undefined {
    return this.#typed(
      key,
      'a whole number (no quotes)',
      (value): value is number => typeof value === 'number' && Number.isInteger(value) && value >= 0,
    );
  }

  /** A whole number from `least` to `most`. */
  integer(key: string, least: number, most: number): number | undefined {
    const value = this.raw(key);
    if (value === undefined || value === null) return undefined;
    if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value;
    const rule = `give a number from ${least} to ${most}, without quotes`;
    throw new ConfigError(`${this.#path}${key}`, `${shown(value)} is not possible`, rule);
  }

  /** Names that are none of the known keys, in their own spelling. */
  unknown(known: readonly string[]): string[] {
    const lower = new Set(known.map((key) => key.toLowerCase()));
    return this.#names.filter((name) => !lower.has(name.toLowerCase()));
  }

  #typed<T>(key: string, expected: string, accept: (value: unknown) => value is T): T | undefined {
    const value = this.raw(key);
    if (value === undefined || value === null) return undefined;
    if (accept(value)) return value;
    throw new ConfigError(`${this.#path}${key}`, `${shown(value)} has the wrong type`, `it must be ${expected}`);
  }
}
