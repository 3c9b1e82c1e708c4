import { describe, expect, it } from 'vitest';
import { messageOf } from '../../../src/base/errors.js';

describe('the text of an error', () => {
  it.each([
    ['its own', new Error('no room'), 'no room'],
    ['its code, where it has no text', Object.assign(new Error(''), { code: 'ECONNREFUSED' }), 'ECONNREFUSED'],
    ['its name, where it has neither', new RangeError(''), 'RangeError'],
    ['those it is made of', new AggregateError([new Error('one'), new Error('two')]), 'one, two'],
    ['that of anything else', 'a string', 'a string'],
  ])('is %s', (_, thrown, text) => expect(messageOf(thrown)).toBe(text));
});
