/** What changed between two runs. */
import { GREEN, type MetricRecord, type RunRecord, SCHEMA, type TestRecord } from '../model.ts';

export interface Comparison {
  readonly fixed: readonly Change[];
  readonly broken: readonly Change[];
  /** Neither green before nor now, and differently so. */
  readonly changed: readonly Change[];
  readonly added: readonly string[];
  readonly gone: readonly string[];
  readonly slower: readonly MetricChange[];
  readonly faster: readonly MetricChange[];
}

export interface Change {
  readonly id: string;
  readonly before: string;
  readonly after: string;
  readonly reason?: string;
}

export interface MetricChange {
  readonly id: string;
  readonly metric: string;
  readonly unit: string;
  readonly before: number;
  readonly after: number;
  /** After by before. */
  readonly ratio: number;
}

/** A median has to move by so much before it is told: emulated hosts are noisy. */
const NOTEWORTHY = 1.25;

/** A test that was green and is not run any more, SKIP, is not broken; one that was skipped and fails now is. */
export function compareRuns(before: RunRecord, after: RunRecord): Comparison {
  const old = new Map(before.tests.map((test) => [test.id, test]));
  const now = new Map(after.tests.map((test) => [test.id, test]));
  const both = after.tests.flatMap((test) => {
    const earlier = old.get(test.id);
    return earlier ? [[earlier, test] as const] : [];
  });
  const changes = (matches: (was: boolean, is: boolean, a: TestRecord, b: TestRecord) => boolean): Change[] =>
    both.filter(([a, b]) => matches(isGreen(a), isGreen(b), a, b)).map(([a, b]) => changeOf(a, b));
  const metrics = both.flatMap(([a, b]) => metricChanges(a, b));
  return {
    fixed: changes((was, is) => !was && is),
    broken: changes((was, is) => was && !is),
    changed: changes((was, is, a, b) => !was && !is && a.verdict !== b.verdict),
    added: after.tests.filter(({ id }) => !old.has(id)).map(({ id, verdict }) => `${id}: ${verdict}`),
    gone: before.tests.filter(({ id }) => !now.has(id)).map(({ id, verdict }) => `${id}: ${verdict}`),
    slower: metrics.filter(({ isWorse }) => isWorse).map(({ change }) => change),
    faster: metrics.filter(({ isWorse }) => !isWorse).map(({ change }) => change),
  };
}

/** @throws Error when it is not the record of a run */
export function readRun(text: string): RunRecord {
  const value = JSON.parse(text) as Partial<RunRecord> | null;
  if (value?.schema !== SCHEMA || !Array.isArray(value.tests))
    throw new Error(`this is not a result of "causeway test" (${SCHEMA})`);
  return value as RunRecord;
}

export function describeComparison(comparison: Comparison): string {
  const change = ({ id, before, after, reason }: Change): string =>
    `${id}: ${before} -> ${after}${reason ? ` (${reason.split('\n')[0]})` : ''}`;
  const metric = ({ id, metric: name, unit, before, after, ratio }: MetricChange): string =>
    `${id}: ${name} ${before} -> ${after} ${unit} (x${ratio.toFixed(2)})`;
  const parts: [string, readonly string[]][] = [
    ['broken', comparison.broken.map(change)],
    ['fixed', comparison.fixed.map(change)],
    ['changed', comparison.changed.map(change)],
    ['new', comparison.added],
    ['gone', comparison.gone],
    ['slower', comparison.slower.map(metric)],
    ['faster', comparison.faster.map(metric)],
  ];
  const told = parts.filter(([, lines]) => lines.length > 0);
  if (told.length === 0) return 'nothing changed\n';
  return told
    .map(([title, lines]) => `${title}: ${lines.length}\n${lines.map((line) => `  ${line}\n`).join('')}`)
    .join('');
}

function isGreen({ verdict }: TestRecord): boolean {
  return GREEN.includes(verdict);
}

function changeOf(before: TestRecord, after: TestRecord): Change {
  const { id, verdict, reason } = after;
  return { id, before: before.verdict, after: verdict, ...(reason === undefined ? {} : { reason }) };
}

function metricChanges(
  before: TestRecord,
  after: TestRecord,
): { readonly change: MetricChange; readonly isWorse: boolean }[] {
  const old = new Map(metricsOf(before).map((metric) => [metric.name, metric]));
  return metricsOf(after).flatMap(({ name, unit, better, p50 }) => {
    const earlier = old.get(name);
    if (!better || !earlier || earlier.unit !== unit || !(earlier.p50 > 0) || !(p50 > 0)) return [];
    const ratio = p50 / earlier.p50;
    if (Math.max(ratio, 1 / ratio) < NOTEWORTHY) return [];
    const change = { id: after.id, metric: name, unit, before: earlier.p50, after: p50, ratio };
    return [{ change, isWorse: better === 'lower' ? ratio > 1 : ratio < 1 }];
  });
}

function metricsOf(test: TestRecord): readonly MetricRecord[] {
  return test.attempts.at(-1)?.metrics ?? [];
}
