/**
 * JSON from outside: registry values, files, answers of programs. JSON.parse takes any depth, and what is nested some
 * thousand levels deep cannot be written again (JSON.stringify throws a RangeError); so whatever comes from outside is
 * bounded here, before it is parsed. What this returns can be walked and written without fear.
 */
import { TweedError } from './errors.js';

export interface JsonLimits {
  /** UTF-16 code units. */
  readonly length: number;
  /** Levels of arrays and objects. */
  readonly depth: number;
}

/** What one value in the registry may be: flannel's largest is some hundred characters, three levels deep. */
export const VALUE_LIMITS: JsonLimits = { length: 65_536, depth: 16 };

/** What a program of this host prints: as much as the kernel has routes, rules and neighbours. */
export const PROGRAM_LIMITS: JsonLimits = { length: 1 << 28, depth: 100 };

/** The text is no JSON, or more of it than is taken. */
export class JsonError extends TweedError {
  constructor(
    readonly problem: string,
    options?: ErrorOptions,
  ) {
    super('JSON_INVALID', `${problem}; write plain JSON of moderate size`, options);
  }
}

/** @throws JsonError */
export function parseJson(text: string, limits: JsonLimits = VALUE_LIMITS): unknown {
  if (text.length > limits.length)
    throw new JsonError(`it has ${text.length} characters, ${limits.length} are allowed`);
  if (depthOf(text) > limits.depth) throw new JsonError(`it is nested more than ${limits.depth} levels deep`);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new JsonError(`not JSON (${(error as Error).message})`, { cause: error });
  }
}

/** The most brackets that are open at once; those inside strings do not count. Right for any JSON, and never less for other texts. */
function depthOf(text: string): number {
  let deepest = 0;
  let open = 0;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 0x22: // a string: to its end
        for (at++; at < text.length && text.charCodeAt(at) !== 0x22; at++) if (text.charCodeAt(at) === 0x5c) at++;
        break;
      case 0x5b:
      case 0x7b:
        open++;
        if (open > deepest) deepest = open;
        break;
      case 0x5d:
      case 0x7d:
        open--;
        break;
    }
  }
  return deepest;
}
