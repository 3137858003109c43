/**
 * Runs inside the lab: starts and stops a VM many times in one process and measures after each time what the process
 * holds. The last VM runs until its guest says that the device works.
 * Usage: node cycles.js '{"config": {...}, "cycles": 20, "seed": 1}'
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createVm, type VmConfig } from '../../index.ts';
import { GUEST_READY } from './marks.ts';
import { randomSource } from './random.ts';

const LONGEST_RUN_MS = 2500;

/** What a process holds. */
export interface Holdings {
  /** Where each open file leads, sorted; numbers of sockets and pipes left out. */
  readonly files: readonly string[];
  readonly threads: number;
  readonly residentMib: number;
  /** Locked or pinned for devices. */
  readonly lockedMib: number;
  /** Of the whole lab. */
  readonly availableMib: number;
}

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

/** Threads leave and garbage is freed a moment after the VM is closed. */
async function settled(): Promise<Holdings> {
  await sleep(50);
  (globalThis as { gc?: () => void }).gc?.();
  await sleep(50);
  const status = readFileSync('/proc/self/status', 'utf8');
  return {
    files: openFiles(),
    threads: readdirSync('/proc/self/task').length,
    residentMib: kib(status, 'VmRSS') / 1024,
    lockedMib: (kib(status, 'VmLck') + kib(status, 'VmPin')) / 1024,
    availableMib: kib(readFileSync('/proc/meminfo', 'utf8'), 'MemAvailable') / 1024,
  };
}

function openFiles(): string[] {
  return readdirSync('/proc/self/fd')
    .flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, 'N')];
      } catch {
        // The directory's own.
        return [];
      }
    })
    .sort();
}

function kib(text: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(text)?.[1] ?? 0);
}

const { config, cycles, seed } = JSON.parse(process.argv[2]!);
process.stdout.write(`${JSON.stringify(await run(config, cycles, seed))}\n`);
