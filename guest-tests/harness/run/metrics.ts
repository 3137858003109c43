/** Summaries of what a test measured. */
import type { Bin, MetricRecord } from '../model.ts';

const MOST_BINS = 40;
const DIGITS = 9;

/** @throws RangeError when there is nothing to summarise, or a value is no number */
export function summarise(
  name: string,
  values: readonly number[],
  { unit, better }: { readonly unit: string; readonly better?: 'lower' | 'higher' },
): MetricRecord {
  if (values.length === 0) throw new RangeError(`metric "${name}": no values`);
  if (!values.every(Number.isFinite)) throw new RangeError(`metric "${name}": a value is not a number`);
  // Binary fractions have a tail of digits that nobody measured.
  const sorted = values.map((value) => Number(value.toPrecision(DIGITS))).sort((a, b) => a - b);
  return {
    name,
    unit,
    ...(better ? { better } : {}),
    count: sorted.length,
    min: sorted[0]!,
    p50: percentile(sorted, 0.5),
    p99: percentile(sorted, 0.99),
    max: sorted.at(-1)!,
    ...(sorted.length > 1 ? { histogram: histogram(sorted) } : {}),
  };
}

/** Nearest rank: a value that was really measured. */
function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!;
}

/**
 * Bins of equal width on a logarithmic axis where all values are positive and spread wide, as latencies do, else on a linear
 * one.
 */
export function histogram(sorted: readonly number[]): Bin[] {
  const [low, high] = [sorted[0]!, sorted.at(-1)!];
  if (low === high) return [{ from: low, to: low, count: sorted.length }];
  const isLogarithmic = low > 0 && high / low > 20;
  const [toAxis, fromAxis] = isLogarithmic ? [Math.log, Math.exp] : [(x: number) => x, (x: number) => x];
  const count = Math.min(MOST_BINS, Math.max(5, Math.ceil(2 * Math.cbrt(sorted.length))));
  const [start, width] = [toAxis(low), (toAxis(high) - toAxis(low)) / count];
  const counts = new Array<number>(count).fill(0);
  for (const value of sorted) counts[Math.min(count - 1, Math.floor((toAxis(value) - start) / width))]!++;
  return counts.map((each, i) => ({
    from: i === 0 ? low : fromAxis(start + i * width),
    to: i === count - 1 ? high : fromAxis(start + (i + 1) * width),
    count: each,
  }));
}
