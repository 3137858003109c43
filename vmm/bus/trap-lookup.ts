/** A vCPU thread's side of a trap table: finds the trap of an address without allocating. */
import type { TrapTableMemory } from './bus-memory.ts';

/** Result fields of the last {@link TrapLookup.find}: valid until the next call. */
export class TrapLookup {
  /** One of TRAP_KIND, 0 when no trap holds the address. */
  kind = 0;
  start = 0;
  /** Exclusive. */
  end = 0;
  arg = 0;
  fileOffset = 0;
  /** First counter of the trap, -1 when it is not counted. */
  counter = -1;
  /** Bytes for which one counter stands. */
  granule = 0;
  readonly #memory: TrapTableMemory;

  constructor(memory: TrapTableMemory) {
    this.#memory = memory;
  }

  find(address: number): void {
    const { header } = this.#memory;
    for (;;) {
      const version = Atomics.load(header, 0);
      // The machine thread is changing the table; it does so in microseconds.
      if (version & 1) continue;
      this.#search(address, Atomics.load(header, 1));
      if (Atomics.load(header, 0) === version) return;
    }
  }

  #search(address: number, count: number): void {
    const { starts, ends, kinds, args, offsets, counters, granules } = this.#memory;
    let low = 0;
    let high = count - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (starts[middle]! > address) high = middle - 1;
      else low = middle + 1;
    }
    if (high < 0 || address >= ends[high]!) {
      this.kind = 0;
      this.counter = -1;
      return;
    }
    this.kind = kinds[high]!;
    this.start = starts[high]!;
    this.end = ends[high]!;
    this.arg = args[high]!;
    this.fileOffset = offsets[high]!;
    this.counter = counters[high]!;
    this.granule = granules[high]!;
  }
}
