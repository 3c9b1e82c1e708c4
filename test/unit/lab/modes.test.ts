import { describe, expect, it } from 'vitest';
import { checkModes, formatMode, modeOf } from '../../../src/lab/modes.js';
import { parsePublishedPort } from '../../../src/lab/names.js';
import { completeOptions } from '../../../src/lab/options.js';

describe('the network mode of a container', () => {
  it('is the last word that names it, or else the last that names none, or else the bridge', () => {
    expect(modeOf([], 'c1')).toEqual({ kind: 'bridge' });
    expect(modeOf(undefined, 'c1')).toEqual({ kind: 'bridge' });
    expect(modeOf(['c2=none', 'host'], 'c2')).toEqual({ kind: 'none' });
    expect(modeOf(['c2=none', 'host'], 'c1')).toEqual({ kind: 'host' });
    expect(modeOf(['c2=none', 'c2=container:c1'], 'c2')).toEqual({ kind: 'container', of: 'c1' });
    expect(formatMode({ kind: 'container', of: 'c1' })).toBe('container:c1');
  });

  it('is refused where it leads nowhere', () => {
    expect(() => checkModes(['c2=bogus'], ['c1', 'c2'])).toThrow(/mode "c2=bogus" is none; write bridge, none/);
    expect(() => checkModes(['c3=host'], ['c1', 'c2'])).toThrow(/there is no such container; there are c1, c2/);
    for (const mode of ['c2=container:c2', 'c2=container:c9', 'container:c1']) {
      expect(() => checkModes([mode], ['c1', 'c2'])).toThrow(/cannot share the network of/);
    }
    expect(() => checkModes(['c1=host', 'c2=container:c1'], ['c1', 'c2'])).toThrow(/has one of its own/);
    expect(() => completeOptions({ containers: 1, modes: ['c2=host'] })).toThrow(/no such container/);
    expect(completeOptions({ modes: ['c2=container:c1'] }).modes).toEqual(['c2=container:c1']);
  });
});

it('a published port is a host and a number', () => {
  expect(parsePublishedPort('host1:8080')).toEqual({ host: 'host1', number: 8080 });
  for (const text of ['host1', 'host1:0', 'host1:65536', 'host1/c1:80', ':80']) {
    expect(() => parsePublishedPort(text)).toThrow(/is no published port; write HOST:PORT/);
  }
});
