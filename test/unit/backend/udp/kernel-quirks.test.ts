import { describe, expect, it } from 'vitest';
import { maxSegments, parseRelease, segmentedSendDoubt } from '../../../../src/backend/udp/kernel-quirks.js';

describe('parseRelease', () => {
  it.each([
    ['6.18.44-custom', [6, 18, 44]],
    ['5.15.0-91-generic', [5, 15, 0]],
    ['6.12', [6, 12, 0]],
    ['7', [7, 0, 0]],
    ['6.1.0-18-cloud-amd64', [6, 1, 0]],
    ['5.14.0-427.el9.x86_64', [5, 14, 0]],
    ['6.6.87.2-microsoft-standard-WSL2', [6, 6, 87]],
    ['10.20.30', [10, 20, 30]],
    ['', [0, 0, 0]],
    ['Linux', [0, 0, 0]],
  ])('reads %j', (release, expected) => {
    expect(parseRelease(release)).toEqual(expected);
  });
});

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
