/** `npm run fuzz -- --operations 1000000 --seed 1 --vcpus 4 [--faults]`: the long run. Exit code 1 when an invariant does not hold. */
import { parseArgs } from 'node:util';
import { fuzz } from './fuzz.ts';

const { values } = parseArgs({
  options: {
    operations: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: '1' },
    vcpus: { type: 'string', default: '4' },
    faults: { type: 'boolean', default: false },
  },
});
const operations = positive(values.operations);
const seed = positive(values.seed);
const vcpus = positive(values.vcpus);

function positive(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number <= 0) {
    console.error(`${text} is no positive whole number`);
    process.exit(2);
  }
  return number;
}

/** Every tenth of the way. */
const onProgress = (done: number): void => {
  if (done > 0 && done % Math.max(10_000, Math.floor(operations / 10 / 10_000) * 10_000) === 0) {
    console.log(`${done} of ${operations}`);
  }
};

const began = performance.now();
try {
  const figures = fuzz({ seed, operations, vcpus, faults: values.faults, onProgress });
  const seconds = Math.round((performance.now() - began) / 1000);
  console.log(`seed ${seed}, ${vcpus} vCPUs, ${seconds} s: every invariant held`);
  for (const [name, value] of Object.entries(figures)) console.log(`  ${name}: ${value}`);
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
