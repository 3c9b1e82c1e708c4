import { describe, expect, it } from 'vitest';
import { maxSegments, segmentedSendDoubt } from '../../../../src/backend/udp/kernel-quirks.js';

describe('maxSegments', () => {
  it.each([
    ['4.18.0', 63],
    ['5.15.0-91-generic', 63],
    ['6.8.12', 63],
    ['6.9.0', 128],
    ['6.10', 128],
    ['6.18.44', 128],
    ['7.0', 128],
    ['unreadable', 63],
  ])('of %s is %i', (release, expected) => {
    expect(maxSegments(release)).toBe(expected);
  });
});

describe('segmentedSendDoubt', () => {
  it.each(['7.0.0', '7.0', '7.0.14', '7.1.0', '7.1.4', '7.1.4-2-pve', '7.0.0-15-generic'])(
    'doubts %s, and names it',
    (release) => {
      expect(segmentedSendDoubt(release)).toContain(release);
    },
  );

  it.each(['6.18.44', '6.99', '7.1.5', '7.1.10', '7.2.0', '8.0', '5.15.0', 'unreadable'])('trusts %s', (release) => {
    expect(segmentedSendDoubt(release)).toBe('');
  });
});
