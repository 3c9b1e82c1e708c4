import { expect, it } from 'vitest';
import { formatMatrix } from '../../src/lab/matrix.js';
import { useLab } from './support/lab.js';

// The smallest lab that has everything: also run under every supported version of Node by `npm run test:nodes`.
const lab = useLab({ hosts: 2, containers: 1, ipFamilies: 'dual' });

it('two hosts carry all kinds of traffic', async () => {
  const result = await lab().test();
  expect(result.ok, formatMatrix(result)).toBe(true);
});
