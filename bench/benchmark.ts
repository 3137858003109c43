/** Carries out the benchmark in one lab: pairs of runs, Causeway and QEMU in turns. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildInitramfs, guestKernel, type Lab, openLab, qemu as qemuPackage } from '../lab/index.ts';
import { type ExitKind, exitPayload, parseExitOutput } from './exit-payload.ts';
import type { RunResult, RunSpec } from './inside.ts';
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

const INSIDE = join(dirname(fileURLToPath(import.meta.url)), 'inside.js');
const PACKAGE = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'package.json');

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
    const { version } = JSON.parse(await readFile(PACKAGE, 'utf8')) as { version: string };
    return {
      versions: {
        causeway: version,
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

interface Run {
  /** 0 warms caches up and does not count. */
  readonly round: number;
  readonly program: Program;
  readonly spec: RunSpec;
}

/** Has the runs done inside the lab, in order, and hands over each result as it comes. */
async function carryOut(
  lab: Lab,
  shareDir: string,
  runs: readonly Run[],
  signal: AbortSignal,
  take: (run: Run, result: RunResult) => void,
): Promise<void> {
  const plan = join(shareDir, 'runs.json');
  await writeFile(plan, JSON.stringify(runs.map(({ spec }) => spec)));
  let rest = '';
  let done = 0;
  let failure: Error | undefined;
  const onStdout = (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const run = runs[done++]!;
      const result = JSON.parse(line) as RunResult;
      try {
        if (result.failure !== undefined) throw new Error(`${run.program}: ${result.failure}`);
        take(run, result);
      } catch (error) {
        failure ??= error as Error;
      }
    }
  };
  const { code, stderr } = await lab.exec([process.execPath, INSIDE, plan], { onStdout, keepOutput: true, signal });
  if (failure) throw failure;
  if (code !== 0 || done !== runs.length) throw new Error(`the runs ended early (exit code ${code}): ${stderr.trim()}`);
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

function nameOf(round: number, pairs: number): string {
  return round === 0 ? 'warm-up' : `pair ${round} of ${pairs}`;
}

function describeMachine(lab: Lab): string {
  const processors = cpus();
  const real = `${processors.length} × ${processors[0]?.model.trim() ?? 'unknown processor'}`;
  return lab.accel === 'tcg'
    ? `lab with 2 emulated processors (QEMU TCG) on ${real}`
    : `lab with nested KVM on ${real}`;
}
