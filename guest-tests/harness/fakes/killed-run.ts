/**
 * A program for a test: a run on a scripted host whose second test never ends, to be killed from outside.
 * Usage: killed-run.ts STATE, with the folder where results and leases go.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { RunFolder } from '../run/run-folder.ts';
import { spec, TestBench } from './test-bench.ts';

const state = process.argv[2]!;
mkdirSync(state, { recursive: true });
const bench = new TestBench(state);
await bench.run(
  [
    spec('done', () => {}),
    spec('killer', () => {
      process.stdout.write('killer runs\n');
      // Keeps the process alive.
      setInterval(() => {}, 1000);
      return new Promise(() => {});
    }),
    spec('next', () => {}),
  ],
  { folder: new RunFolder(join(state, 'run')) },
);
