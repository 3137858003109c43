import { configDefaults, defineConfig } from 'vitest/config';

const MINUTE_MS = 60_000;
const exclude = [...configDefaults.exclude, '**/dist/**', '.cache/**'];

/**
 * Tests of the lab that `npm run test:more` runs. iommufd needs a kernel that is built for it (`npm run lab:kernel`), sriov a
 * newer QEMU; endurance and settings take long.
 */
const MORE = ['iommufd', 'sriov', 'endurance', 'settings'].map((name) => `guest-tests/${name}.test.ts`);
const ON_REQUEST = process.env.CAUSEWAY_MORE_TESTS ? [] : MORE;

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['**/*.test.ts'],
          // The files right in guest-tests/ need a lab; those in its folders test the parts that they are made of.
          exclude: [...exclude, 'guest-tests/*.test.ts'],
          // Not threads: file descriptors belong to the process, and one test's closed number is another's open file.
          pool: 'forks',
          maxWorkers: 2,
          // The tests keep their state to themselves; a fresh module graph for each file doubled the time of all of them.
          isolate: false,
        },
      },
      {
        test: {
          name: 'lab',
          include: ['guest-tests/*.test.ts'],
          exclude: [...exclude, ...ON_REQUEST],
          // Each file owns a whole emulated host of one processor or two.
          maxWorkers: 2,
          pool: 'forks',
          // An emulated host can stall under load. What passes only the second time is told at the end of the run.
          retry: 1,
          testTimeout: 10 * MINUTE_MS,
          hookTimeout: 10 * MINUTE_MS,
        },
      },
    ],
  },
});
