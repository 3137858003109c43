/**
 * Runs inside the lab: starts and stops a VM many times in one process and measures after each time what the process
 * holds. The last VM runs until its guest says that the device works.
 * Usage: node cycles.js '{"config": {...}, "cycles": 20, "seed": 1}'
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createVm, type VmConfig } from '../../index.ts';
import { type Holdings, settled } from './holdings.ts';
import { GUEST_READY } from './marks.ts';
import { randomSource } from './random.ts';

const LONGEST_RUN_MS = 2500;

export interface CyclesResult {
  /** After a first start and stop, which loads and allocates what stays; and after each that followed. */
  readonly holdings: readonly Holdings[];
  readonly runsMs: readonly number[];
  readonly lastConsole: string;
}

async function run(config: VmConfig, cycles: number, seed: number): Promise<CyclesResult> {
  const random = randomSource(seed);
  const holdings: Holdings[] = [];
  const runsMs: number[] = [];
  let lastConsole = '';
  for (let cycle = 0; cycle <= cycles; cycle++) {
    const isLast = cycle === cycles;
    const vm = await createVm(config);
    vm.serial.onData((bytes) => process.stderr.write(bytes));
    await vm.start();
    const runMs = Math.round(random() * LONGEST_RUN_MS);
    if (isLast) await vm.serial.waitFor(GUEST_READY, { timeoutMs: 120_000 });
    else await sleep(runMs);
    await vm.stop();
    lastConsole = vm.serial.text();
    await vm.close();
    runsMs.push(runMs);
    holdings.push(await settled());
    process.stderr.write(`\ncycle ${cycle}: ${JSON.stringify({ ...holdings.at(-1), files: undefined })}\n`);
  }
  return { holdings, runsMs, lastConsole };
}

const { config, cycles, seed } = JSON.parse(process.argv[2]!);
process.stdout.write(`${JSON.stringify(await run(config, cycles, seed))}\n`);
