/** Has a list of runs done inside the lab, one after the other. */
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Lab } from '../lab/index.ts';
import type { RunResult, RunSpec } from './inside.ts';
import type { Program } from './programs.ts';

export interface Run {
  /** 0 warms caches up and does not count. */
  readonly round: number;
  readonly program: Program;
  readonly spec: RunSpec;
}

const INSIDE = join(dirname(fileURLToPath(import.meta.url)), 'inside.js');

/**
 * Hands over each result as it comes.
 * @throws Error when a run fails, or `take` does
 */
export async function carryOut<T extends Run>(
  lab: Lab,
  shareDir: string,
  runs: readonly T[],
  signal: AbortSignal,
  take: (run: T, result: RunResult) => void,
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

export function nameOf(round: number, pairs: number): string {
  return round === 0 ? 'warm-up' : `pair ${round} of ${pairs}`;
}
