/** Address ranges and the one class for sets of them that do not overlap. */

/** `size` bytes from `start`. The end is always {@link endOf}: exclusive. */
export interface Range {
  readonly start: number;
  readonly size: number;
}

/** First address past the range. @throws RangeError when it is not an exact JS integer */
export function endOf(range: Range): number {
  const end = range.start + range.size;
  if (!Number.isSafeInteger(end)) throw new RangeError(`range of ${range.size} bytes at ${range.start} wraps`);
  return end;
}

export function overlaps(a: Range, b: Range): boolean {
  return a.start < endOf(b) && b.start < endOf(a);
}

export function contains(outer: Range, inner: Range): boolean {
  return inner.start >= outer.start && endOf(inner) <= endOf(outer);
}

/** What two ranges share; undefined when that is nothing. */
export function intersection(a: Range, b: Range): Range | undefined {
  const start = Math.max(a.start, b.start);
  const end = Math.min(endOf(a), endOf(b));
  return start < end ? { start, size: end - start } : undefined;
}

/** The parts of `range` that none of `holes` covers, in ascending order. */
export function subtract(range: Range, holes: readonly Range[]): Range[] {
  const parts: Range[] = [];
  let at = range.start;
  for (const hole of [...holes].sort((a, b) => a.start - b.start)) {
    if (hole.size === 0 || endOf(hole) <= at) continue;
    if (hole.start >= endOf(range)) break;
    if (hole.start > at) parts.push({ start: at, size: hole.start - at });
    at = endOf(hole);
  }
  if (at < endOf(range)) parts.push({ start: at, size: endOf(range) - at });
  return parts;
}

/** Non-overlapping ranges with a value each: RAM, ports, MMIO, BARs. */
export class AddressSpace<T> {
  readonly #entries: { readonly range: Range; readonly value: T }[] = [];

  /** @throws RangeError when the range is empty or overlaps another */
  insert(range: Range, value: T): void {
    if (range.size <= 0) throw new RangeError('an empty range cannot be claimed');
    endOf(range);
    const clash = this.#entries.find((entry) => overlaps(entry.range, range));
    if (clash) throw new RangeError(`range at ${range.start} overlaps the one at ${clash.range.start}`);
    const at = this.#entries.findIndex((entry) => entry.range.start > range.start);
    this.#entries.splice(at < 0 ? this.#entries.length : at, 0, { range, value });
  }

  /** Removes the range that starts at `start`; false when there is none. */
  remove(start: number): boolean {
    const at = this.#entries.findIndex((entry) => entry.range.start === start);
    if (at < 0) return false;
    this.#entries.splice(at, 1);
    return true;
  }

  /** The range that holds all `size` bytes from `address`. */
  find(address: number, size = 1): { readonly range: Range; readonly value: T } | undefined {
    return this.#entries.find(({ range }) => contains(range, { start: address, size }));
  }

  isFree(range: Range): boolean {
    return !this.#entries.some((entry) => overlaps(entry.range, range));
  }

  [Symbol.iterator](): IterableIterator<{ readonly range: Range; readonly value: T }> {
    return this.#entries[Symbol.iterator]();
  }
}
