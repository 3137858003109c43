/** Counters of trapped pages: the machine thread hands them out and reads them, vCPU threads add to them. */
import { alignDown, PAGE_SIZE } from '../base/bits.ts';
import { AddressSpace } from '../base/ranges.ts';
import type { AccessCount } from './trap.ts';

/** No trap has more: the pages of a larger one share them. */
const MAX_COUNTERS_OF_TRAP = 256;

/** The counters of one trap. */
export interface TrapCounters {
  /** Of the first one. */
  readonly index: number;
  readonly count: number;
  /** Bytes for which each stands, from the page that holds the trap's start. */
  readonly granule: number;
}

export class CounterPool {
  readonly #counts: Int32Array;
  readonly #used = new AddressSpace<undefined>();

  /** @param counts low and high word of each counter */
  constructor(counts: Int32Array) {
    this.#counts = counts;
  }

  /** Counters at 0 for a trap; undefined when there are not enough left: it is not counted then. */
  allocate(start: number, sizeBytes: number): TrapCounters | undefined {
    const first = alignDown(start, PAGE_SIZE);
    let granule = PAGE_SIZE;
    while (Math.ceil((start + sizeBytes - first) / granule) > MAX_COUNTERS_OF_TRAP) granule *= 2;
    const count = Math.ceil((start + sizeBytes - first) / granule);
    let index = 0;
    for (const { range } of this.#used) {
      if (range.start - index >= count) break;
      index = range.start + range.size;
    }
    if (2 * (index + count) > this.#counts.length) return undefined;
    this.#used.insert({ start: index, size: count }, undefined);
    this.#counts.fill(0, 2 * index, 2 * (index + count));
    return { index, count, granule };
  }

  free({ index }: TrapCounters): void {
    this.#used.remove(index);
  }

  read({ index, count, granule }: TrapCounters, trapStart: number): AccessCount[] {
    const found: AccessCount[] = [];
    for (let i = 0; i < count; i++) {
      const low = Atomics.load(this.#counts, 2 * (index + i)) >>> 0;
      const accesses = Atomics.load(this.#counts, 2 * (index + i) + 1) * 2 ** 32 + low;
      if (accesses > 0) found.push({ offset: offsetOf(i, granule, trapStart), accesses });
    }
    return found;
  }
}

/** Where the bytes of a trap's nth counter begin, from the trap's start. */
export function offsetOf(n: number, granule: number, trapStart: number): number {
  return Math.max(0, alignDown(trapStart, PAGE_SIZE) + n * granule - trapStart);
}
