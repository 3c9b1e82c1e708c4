import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  belongsTo,
  checkLabName,
  formatPlace,
  namespaceOf,
  type Place,
  parsePlace,
  parsePublication,
} from '../../../src/lab/names.js';

const labName = fc.stringMatching(/^[a-z][a-z0-9-]{0,12}$/);
const number = fc.integer({ min: 1, max: 5000 });
const place: fc.Arbitrary<Place> = fc.oneof(
  fc.constantFrom<Place>({ kind: 'switch' }, { kind: 'internet' }, { kind: 'etcd' }),
  number.map((n): Place => ({ kind: 'host', host: `host${n}` })),
  fc.tuple(number, number).map(([n, m]): Place => ({ kind: 'container', host: `host${n}`, container: `c${m}` })),
);

describe('places of a lab', () => {
  it('are read as they are written', () => {
    fc.assert(
      fc.property(place, (any) => {
        expect(parsePlace(formatPlace(any))).toEqual(any);
      }),
    );
  });

  it('have namespaces that belong to their own lab and to no other', () => {
    fc.assert(
      fc.property(labName, labName, place, (lab, other, any) => {
        const namespace = namespaceOf(lab, any);
        expect(belongsTo(lab, namespace)).toBe(true);
        expect(belongsTo(other, namespace)).toBe(other === lab);
      }),
    );
  });

  it('do not include what only looks like one', () => {
    for (const text of ['', 'host', 'host0', 'host01', 'host1/', 'host1/c0', 'c1', 'host1/c1/c2', 'Host1']) {
      expect(() => parsePlace(text), text).toThrow(/no place of a lab; name a host/);
    }
    for (const namespace of ['lab-', 'lab-host1-', 'lab-host1-c1x', 'lab-other', 'lab']) {
      expect(belongsTo('lab', namespace), namespace).toBe(false);
    }
  });
});

describe('a lab name', () => {
  it('is refused when it could not be part of a namespace name', () => {
    for (const name of ['', 'Lab', '1lab', 'a/b', '..', 'a b', 'a'.repeat(32)]) {
      expect(() => checkLabName(name), name).toThrow(/cannot be a lab's name/);
    }
  });
});

describe('a publication', () => {
  it('is read from HOST:PORT HOST/CONTAINER:PORT', () => {
    expect(parsePublication('host1:8080', 'host2/c3:80')).toEqual({
      host: 'host1',
      hostPort: 8080,
      targetHost: 'host2',
      targetContainer: 'c3',
      targetPort: 80,
    });
  });

  it('is refused with the right form when it is anything else', () => {
    for (const [from, to] of [
      ['host1', 'host1/c1:80'],
      ['host1:0', 'host1/c1:80'],
      ['host1:65536', 'host1/c1:80'],
      ['host1:80', 'host1:80'],
      ['host1:80', 'host1/c1:123456'],
    ] as const) {
      expect(() => parsePublication(from, to), `${from} ${to}`).toThrow(/write HOST:PORT HOST\/CONTAINER:PORT/);
    }
  });
});
