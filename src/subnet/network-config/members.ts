import { ConfigError } from '../errors.js';

/**
 * The members of a configuration object, found without regard to the case of their names, as Go's encoding/json does:
 * of two names that differ only in case the later one counts, and null leaves the default in place.
 */
export class Members {
  readonly #byLowerName = new Map<string, unknown>();
  readonly #names: readonly string[];

  /** @throws ConfigError when the value is no JSON object. */
  constructor(value: unknown) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new ConfigError('', 'is no JSON object', 'write an object such as {"Network":"10.5.0.0/16"}');
    }
    this.#names = Object.keys(value);
    for (const [name, member] of Object.entries(value)) this.#byLowerName.set(name.toLowerCase(), member);
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

  /** Names that are none of the known keys, in their own spelling. */
  unknown(known: readonly string[]): string[] {
    const lower = new Set(known.map((key) => key.toLowerCase()));
    return this.#names.filter((name) => !lower.has(name.toLowerCase()));
  }

  #typed<T>(key: string, expected: string, accept: (value: unknown) => value is T): T | undefined {
    const value = this.raw(key);
    if (value === undefined || value === null) return undefined;
    if (!accept(value))
      throw new ConfigError(key, `${JSON.stringify(value)} has the wrong type`, `it must be ${expected}`);
    return value;
  }
}
