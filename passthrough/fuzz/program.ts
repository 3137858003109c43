/** `npm run fuzz -- --operations 1000000 --seed 1 --vcpus 4 [--faults]`: the long run. Exit code 1 when an invariant does not hold, 2 for wrong words. */
import { parseArgs } from 'node:util';
import { fuzz } from './fuzz.ts';

const USAGE = `Usage: npm run fuzz -- [--operations N] [--seed N] [--vcpus N] [--faults]

A guest that does anything, on the scripted kernel: config space, BARs, MSI-X, resets, of all vCPUs in turns.

  --operations N   how many (1000000)
  --seed N         where the random numbers begin (1)
  --vcpus N        who takes turns (4)
  --faults         kernel calls fail now and then
`;

const { operations, seed, vcpus, faults } = readOptions();

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        operations: { type: 'string', default: '1000000' },
        seed: { type: 'string', default: '1' },
        vcpus: { type: 'string', default: '4' },
        faults: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      process.stdout.write(USAGE);
      process.exit(0);
    }
    const [operations, seed, vcpus] = [values.operations, values.seed, values.vcpus].map(positive) as [
      number,
      number,
      number,
    ];
    return { operations, seed, vcpus, faults: values.faults };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    process.exit(2);
  }
}

function positive(text: string): number {
  const number = Number(text);
  if (Number.isInteger(number) && number > 0) return number;
  throw new Error(`${text} is no positive whole number`);
}

/** Every tenth of the way. */
const onProgress = (done: number): void => {
  if (done > 0 && done % Math.max(10_000, Math.floor(operations / 10 / 10_000) * 10_000) === 0) {
    console.log(`${done} of ${operations}`);
  }
};

const began = performance.now();
try {
  const figures = fuzz({ seed, operations, vcpus, faults, onProgress });
  const seconds = Math.round((performance.now() - began) / 1000);
  console.log(`seed ${seed}, ${vcpus} vCPUs, ${seconds} s: every invariant held`);
  for (const [name, value] of Object.entries(figures)) console.log(`  ${name}: ${value}`);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
