import { defineConfig } from 'vitest/config';
import { patienceFactor, patient } from './src/lab/patience.js';

/**
 * System tests that mostly wait, for etcd's time to live, for a daemon's next check, for a timer. Each file makes namespaces
 * with names of its own and looks at nothing that another one changes, so several of them run side by side. The others
 * measure, load the processors, or compare the machine before and after, and have it to themselves.
 */
const waiting = [
  'test/system/backends/*.test.ts',
  'test/system/{alerts,bench-report,cluster,diagnosis,lab,lab-smoke,tour,trace,trace-ways}.test.ts',
  'test/system/daemon/{etcd,life,operating,several,trouble}.test.ts',
  'test/system/routes/*.test.ts',
  'test/system/subnet/*.test.ts',
  'test/system/wireguard/{lab,mixed-lab}.test.ts',
];

const system = {
  globalSetup: ['test/system/support/global-setup.ts'],
  testTimeout: patient(120_000),
  hookTimeout: patient(120_000),
  pool: 'forks' as const,
};

// Unit tests run in parallel and need no root. System tests make namespaces, as root; docker's an engine. Those of kernels
// run in a machine of their own, see scripts/test-kernels.mjs.
// None keeps a cache: system tests run as root and would leave its files in a folder that is another user's.
export default defineConfig({
  test: {
    cache: false,
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/{unit,fuzz}/**/*.test.ts'],
          globalSetup: ['test/support/unit-setup.ts'],
          testTimeout: patient(60_000),
          // Vitest leaves a processor to its watcher, which is half of two.
          maxWorkers: patienceFactor > 1 ? 1 : '100%',
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...system,
          name: 'system-waiting',
          include: waiting,
          // A slow machine is at its limit with one already.
          maxWorkers: patienceFactor > 1 ? 1 : 3,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...system,
          name: 'system',
          include: ['test/system/**/*.test.ts'],
          exclude: waiting,
          fileParallelism: false,
          sequence: { groupOrder: 2 },
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
          sequence: { groupOrder: 3 },
        },
      },
      {
        test: {
          ...system,
          name: 'kernels',
          include: ['test/kernels/**/*.test.ts'],
          fileParallelism: false,
          sequence: { groupOrder: 4 },
        },
      },
    ],
  },
});
