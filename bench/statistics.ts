/** What is said about a handful of noisy measurements: no means, since one slow run would move them. */

export interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

/** Two programs side by side. `ratio` is that of each pair, never of the two medians: what slows a whole pair cancels out. */
export interface Comparison {
  readonly causeway: Spread;
  readonly qemu: Spread;
  readonly ratio: Spread;
}

/** @throws RangeError when there is nothing to describe */
export function spread(values: readonly number[]): Spread {
  if (values.length === 0) throw new RangeError('no measurements');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { min: sorted[0]!, median, max: sorted.at(-1)! };
}

/** @throws RangeError when the two lists are not pairs */
export function compare(causeway: readonly number[], qemu: readonly number[]): Comparison {
  if (causeway.length !== qemu.length) throw new RangeError(`${causeway.length} measurements against ${qemu.length}`);
  const ratio = spread(causeway.map((value, pair) => value / qemu[pair]!));
  return { causeway: spread(causeway), qemu: spread(qemu), ratio };
}
