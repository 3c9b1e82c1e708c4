import { defineConfig } from 'vitest/config';
import { patient } from './src/lab/patience.js';

// Unit tests run in parallel and need no root; system tests make namespaces and share two cores, so one file at a time.
// Neither keeps a cache: system tests run as root and would leave its files in a folder that is another user's.
export default defineConfig({
  test: {
    cache: false,
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          globalSetup: ['test/support/unit-setup.ts'],
          testTimeout: patient(20_000),
        },
      },
      {
        test: {
          name: 'system',
          include: ['test/system/**/*.test.ts'],
          globalSetup: ['test/system/support/global-setup.ts'],
          testTimeout: patient(120_000),
          hookTimeout: patient(120_000),
          fileParallelism: false,
          pool: 'forks',
        },
      },
      {
        test: {
          name: 'docker',
          include: ['test/docker/**/*.test.ts'],
          globalSetup: ['test/docker/support/global-setup.ts'],
          testTimeout: patient(180_000),
          hookTimeout: patient(600_000),
          fileParallelism: false,
          pool: 'forks',
        },
      },
    ],
  },
});
