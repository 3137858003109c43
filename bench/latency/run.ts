/** Carries out the measurements of devices in one lab: the same payload on the same device, Causeway and QEMU in turns. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildPayloads } from '../../guest-tests/bare/build.ts';
import { parseKtap } from '../../guest-tests/bare/ktap.ts';
import { openLab, qemu as qemuPackage } from '../../lab/index.ts';
import { carryOut, nameOf } from '../carry-out.ts';
import { causewayVersion, describeMachine } from '../environment.ts';
import type { RunResult } from '../inside.ts';
import { PROGRAMS, type Program, payloadRun } from '../programs.ts';
import type { LatencyOptions } from './options.ts';
import { LATENCY_PAYLOADS, type LatencyPayload } from './payloads.ts';

/** Of one run, in ns. */
export interface Quantiles {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export interface LatencyResult {
  readonly versions: {
    readonly causeway: string;
    readonly node: string;
    readonly qemu: string;
    readonly host: string;
  };
  readonly machine: string;
  readonly pairs: number;
  /** Values in one run of one measure. */
  readonly loops: number;
  /** By the name of the distribution; entry n belongs to pair n. */
  readonly measured: Readonly<Record<string, Readonly<Record<Program, readonly Quantiles[]>>>>;
  /** Tests of the payloads that failed, as `program: payload: test: reason`, each once. */
  readonly failed: readonly string[];
}

/** @throws LabError, or Error when the runs end early */
export async function measureLatency(
  { pairs, loops, qemu: series, cpus }: LatencyOptions,
  log: (line: string) => void,
  signal: AbortSignal,
): Promise<LatencyResult> {
  const qemu = await qemuPackage(series, { log });
  const payloads = await buildPayloads();
  const shareDir = await mkdtemp(join(tmpdir(), 'causeway-latency-'));
  try {
    const devices = [...new Set(LATENCY_PAYLOADS.map(({ model }) => model))];
    await using lab = await openLab({ devices, shareDir, cpus, log, signal });
    const runs = Array.from({ length: pairs + 1 }, (_, round) => round).flatMap((round) =>
      LATENCY_PAYLOADS.flatMap((what) =>
        PROGRAMS.map((program) => {
          const device = lab.devices.find(({ model }) => model === what.model)!.bdf;
          const payload = payloads.get(what.payload)!;
          return { round, program, what, spec: payloadRun(program, qemu, { payload, args: `loops=${loops}`, device }) };
        }),
      ),
    );
    const measured: Record<string, Record<Program, Quantiles[]>> = {};
    const failed = new Set<string>();
    await carryOut(lab, shareDir, runs, signal, ({ round, program, what }, result) => {
      const { found, failures } = readRun(what, result);
      log(`${nameOf(round, pairs)}: ${program}: ${what.payload} in ${(result.endMs / 1000).toFixed(1)} s`);
      const hangs = result.earlier.map((failure) => `it ended early and was run again: ${lastWords(failure)}`);
      for (const failure of [...hangs, ...failures]) failed.add(`${program}: ${what.payload}: ${failure}`);
      if (round === 0) return;
      for (const [name, quantiles] of Object.entries(found)) {
        measured[name] ??= { causeway: [], qemu: [] };
        measured[name][program].push(quantiles);
      }
    });
    return {
      versions: {
        causeway: await causewayVersion(),
        node: process.version,
        qemu: qemu.version,
        host: lab.kernelVersion,
      },
      machine: describeMachine(lab, cpus),
      pairs,
      loops,
      measured,
      failed: [...failed],
    };
  } finally {
    await rm(shareDir, { recursive: true, force: true });
  }
}

/** How it ended, and the last that it said. */
function lastWords(failure: string): string {
  const lines = failure.split('\n');
  return [...new Set([lines[0]!, lines.at(-1)!])].join('; ');
}

/** What a run measured, and what went wrong in it: tests that failed, measures that are missing with what it said instead. */
export function readRun(
  { measures }: Pick<LatencyPayload, 'measures'>,
  { lines, complaints }: Pick<RunResult, 'lines' | 'complaints'>,
): { readonly found: Readonly<Record<string, Quantiles>>; readonly failures: readonly string[] } {
  const said = lines.map(({ text }) => text);
  const { distributions, results } = parseKtap(said.join('\n'));
  const found: Record<string, Quantiles> = {};
  const failures = results
    .filter(({ verdict }) => verdict === 'fail')
    .map(({ name, reason }) => `${name}: ${reason ?? 'no reason given'}`);
  for (const { distribution } of measures) {
    const at = distributions[distribution]?.percentiles;
    if (at) found[distribution] = { p50: at[50]!, p99: at[99]!, max: at[100]! };
    else failures.push(`${distribution} was not measured; last words: ${complaints.trim() || said.at(-1) || 'none'}`);
  }
  return { found, failures };
}
