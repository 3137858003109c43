/** Carries out the benchmark in one lab: pairs of runs, Causeway and QEMU in turns. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildInitramfs, guestKernel, openLab, qemu as qemuPackage } from '../lab/index.ts';
import { carryOut, nameOf } from './carry-out.ts';
import { causewayVersion, describeMachine } from './environment.ts';
import { type ExitKind, exitPayload, parseExitOutput } from './exit-payload.ts';
import type { RunResult } from './inside.ts';
import type { BenchOptions } from './options.ts';
import type { MemorySample } from './process-memory.ts';
import { exitRun, INIT, PROGRAMS, type Program, startRun } from './programs.ts';
import { spread } from './statistics.ts';

/** All runs of one program, in order: entry n belongs to pair n. */
export interface Measurements {
  readonly startMs: number[];
  readonly memory: MemorySample[];
  /** Microseconds for one exit: the median batch of each run. */
  readonly exitUs: Readonly<Record<ExitKind, number[]>>;
}

export interface BenchResult {
  readonly versions: {
    readonly causeway: string;
    readonly node: string;
    readonly qemu: string;
    readonly host: string;
    readonly guest: string;
  };
  readonly machine: string;
  readonly memoryMib: number;
  readonly pairs: number;
  readonly exits: number;
  readonly programs: Readonly<Record<Program, Measurements>>;
}

type Log = (line: string) => void;

/** Runs everything. @throws LabError, or Error when a run fails */
export async function runBenchmark(options: BenchOptions, log: Log, signal: AbortSignal): Promise<BenchResult> {
  const { pairs, exits, memoryMib } = options;
  const qemu = await qemuPackage(options.qemu, { log });
  const kernel = await guestKernel(options.kernel, { log });
  const initrd = await buildInitramfs({ kernel, init: INIT }, { log });
  const shareDir = await mkdtemp(join(tmpdir(), 'causeway-bench-'));
  try {
    const payload = join(shareDir, 'exits.elf');
    await writeFile(payload, exitPayload(exits));
    await using lab = await openLab({ devices: ['e1000e'], shareDir, log, signal });
    const device = lab.devices[0]!.bdf;
    const guest = { kernel: kernel.vmlinuz, initrd, memoryMib, device };
    const programs = { causeway: empty(), qemu: empty() };
    const rounds = Array.from({ length: pairs + 1 }, (_, round) => round);
    const starts = rounds.flatMap((round) =>
      PROGRAMS.map((program) => ({ round, program, spec: startRun(program, qemu, guest) })),
    );
    const exitRuns = rounds.flatMap((round) =>
      PROGRAMS.map((program) => ({ round, program, spec: exitRun(program, qemu, payload) })),
    );
    await carryOut(lab, shareDir, starts, signal, ({ round, program }, result) => {
      const { startMs, memory } = result;
      if (startMs === undefined || memory === undefined) throw new Error(`${program}: its memory could not be read`);
      log(`${nameOf(round, pairs)}: ${program} started the guest in ${(startMs / 1000).toFixed(2)} s`);
      if (round === 0) return;
      programs[program].startMs.push(startMs);
      programs[program].memory.push(memory);
    });
    await carryOut(lab, shareDir, exitRuns, signal, ({ round, program }, result) => {
      const cost = exitCost(result, exits);
      log(`${nameOf(round, pairs)}: ${program} took ${cost.read.toFixed(1)} µs for an exit`);
      if (round === 0) return;
      programs[program].exitUs.read.push(cost.read);
      programs[program].exitUs.write.push(cost.write);
    });
    return {
      versions: {
        causeway: await causewayVersion(),
        node: process.version,
        qemu: qemu.version,
        host: lab.kernelVersion,
        guest: kernel.version,
      },
      machine: describeMachine(lab),
      memoryMib,
      pairs,
      exits,
      programs,
    };
  } finally {
    await rm(shareDir, { recursive: true, force: true });
  }
}

/** The counter's speed follows from the times at which the first and the last line came. */
function exitCost({ lines }: RunResult, exits: number): Record<ExitKind, number> {
  const { ticks, totalTicks } = parseExitOutput(lines.map(({ text }) => text).join('\n'), exits);
  const numbers = lines.filter(({ text }) => /^[0-9a-f]{16}$/.test(text));
  const ticksPerUs = totalTicks / ((numbers.at(-1)!.ms - numbers[0]!.ms) * 1000);
  return { read: spread(ticks.read).median / ticksPerUs, write: spread(ticks.write).median / ticksPerUs };
}

function empty(): Measurements {
  return { startMs: [], memory: [], exitUs: { read: [], write: [] } };
}
