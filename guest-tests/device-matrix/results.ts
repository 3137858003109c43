/** What is read out of the record of a run of `matrix.ts`. */
import type { AttemptRecord, RunRecord } from '../harness/model.ts';

/** The tests of `matrix.ts`. */
export const CAUSEWAY = 'Causeway';
export const QEMU = 'QEMU';
export const MONITORS = [CAUSEWAY, QEMU] as const;
export type Monitor = (typeof MONITORS)[number];

/** Set when QEMU is to do the same. */
export const QEMU_VARIABLE = 'CAUSEWAY_MATRIX_QEMU';

export function readyMetric(name: string): string {
  return `${name}: driver ready`;
}

export function exitsMetric(name: string): string {
  return `${name}: exits per operation`;
}

/** What became of one device under one monitor. */
export interface Outcome {
  readonly works: boolean;
  /** What the guest found wrong, or why there is nothing. */
  readonly failure?: string;
  /** From binding the driver to what it makes: an interface, a disk. On the guest's clock, which counts hundredths. */
  readonly readySeconds?: number;
  readonly exitsPerOperation?: number;
}

/** Undefined when nobody looked. */
export function outcomeOf(run: RunRecord, monitor: Monitor, name: string): Outcome | undefined {
  const test = run.tests.find((each) => each.name === monitor);
  if (!test || test.verdict === 'SKIP') return undefined;
  const attempt: AttemptRecord | undefined = test.attempts.at(-1);
  const step = attempt?.subtests.find((each) => each.name === name);
  const metric = (wanted: string) => attempt?.metrics.find((each) => each.name === wanted)?.p50;
  const [readySeconds, exitsPerOperation] = [metric(readyMetric(name)), metric(exitsMetric(name))];
  const works = step?.verdict === 'PASS';
  const failure = step?.reason ?? test.reason ?? 'the guest never came to it';
  return {
    works,
    ...(works ? {} : { failure: failure.split('\n')[0]! }),
    ...(readySeconds === undefined ? {} : { readySeconds }),
    ...(exitsPerOperation === undefined ? {} : { exitsPerOperation }),
  };
}
