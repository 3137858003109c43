/** The machine thread's side of a trap table: keeps the handlers and publishes the rest to shared memory. */
import { AddressSpace, subtract } from '../base/ranges.ts';
import { type BusMemory, TRAP_CAPACITY, TRAP_KIND, type TrapTableMemory } from './bus-memory.ts';
import { CounterPool, offsetOf, type TrapCounters } from './counter-pool.ts';
import type { AccessCount, Trap, TrapHandler, TrapMap } from './trap.ts';

/** Hands out pieces of {@link BusMemory.shared} and counters; one for both tables of a bus. */
export class SharedBytes {
  readonly counters: CounterPool;
  readonly #bus: BusMemory;
  readonly #used = new AddressSpace<undefined>();

  constructor(bus: BusMemory) {
    this.#bus = bus;
    this.counters = new CounterPool(bus.counts);
  }

  /** @throws RangeError when no piece of the memory is that big */
  allocate(sizeBytes: number): Uint8Array {
    const { shared } = this.#bus;
    const taken = [...this.#used].map(({ range }) => range);
    const free = subtract({ start: 0, size: shared.length }, taken).find(({ size }) => size >= sizeBytes);
    if (!free) throw new RangeError('the bus has no shared memory left');
    this.#used.insert({ start: free.start, size: sizeBytes }, undefined);
    return shared.subarray(free.start, free.start + sizeBytes).fill(0);
  }

  release(bytes: Uint8Array): void {
    this.#used.remove(bytes.byteOffset - this.#bus.shared.byteOffset);
  }
}

export class TrapTable implements TrapMap {
  readonly #traps = new AddressSpace<Trap>();
  /** By the trap's start. */
  readonly #counters = new Map<number, TrapCounters>();
  readonly #memory: TrapTableMemory;
  readonly #shared: SharedBytes;
  readonly #sharedStart: number;

  constructor(memory: TrapTableMemory, bus: BusMemory, shared: SharedBytes) {
    this.#memory = memory;
    this.#shared = shared;
    this.#sharedStart = bus.shared.byteOffset;
    this.#publish();
  }

  add(start: number, size: number, trap: Trap): void {
    if ([...this.#traps].length >= TRAP_CAPACITY) throw new RangeError('the trap table is full');
    this.#traps.insert({ start, size }, trap);
    const counters = trap.onBurst && this.#shared.counters.allocate(start, size);
    if (counters) this.#counters.set(start, counters);
    this.#publish();
  }

  remove(start: number): void {
    if (!this.#traps.remove(start)) return;
    const counters = this.#counters.get(start);
    this.#counters.delete(start);
    this.#publish();
    if (counters) this.#shared.counters.free(counters);
  }

  accessCounts(start: number): readonly AccessCount[] {
    const counters = this.#counters.get(start);
    return counters ? this.#shared.counters.read(counters, start) : [];
  }

  /** A counter has seen another burst of accesses: tells the trap, if it is of this table. */
  burst(counter: number): void {
    for (const { range, value } of this.#traps) {
      const counters = this.#counters.get(range.start);
      if (!counters || counter < counters.index || counter >= counters.index + counters.count) continue;
      value.onBurst?.(offsetOf(counter - counters.index, counters.granule, range.start));
      return;
    }
  }

  isFree(start: number, size: number): boolean {
    return this.#traps.isFree({ start, size });
  }

  allocateShared(sizeBytes: number): Uint8Array {
    return this.#shared.allocate(sizeBytes);
  }

  releaseShared(bytes: Uint8Array): void {
    this.#shared.release(bytes);
  }

  /** The handler of an address and the offset within its trap; undefined for what no handler serves. */
  handlerAt(
    address: number,
  ): { readonly handler: TrapHandler; readonly offset: number; readonly name: string } | undefined {
    const found = this.#traps.find(address);
    if (!found || !('handler' in found.value)) return undefined;
    return { handler: found.value.handler, offset: address - found.range.start, name: found.value.name };
  }

  #publish(): void {
    const { header, starts, ends, kinds, args, offsets, counters, granules } = this.#memory;
    Atomics.add(header, 0, 1);
    let count = 0;
    for (const { range, value } of this.#traps) {
      starts[count] = range.start;
      ends[count] = range.start + range.size;
      kinds[count] = kindOf(value);
      args[count] =
        value.kind === 'file' ? value.fd : 'bytes' in value ? value.bytes.byteOffset - this.#sharedStart : 0;
      counters[count] = this.#counters.get(range.start)?.index ?? -1;
      granules[count] = this.#counters.get(range.start)?.granule ?? 0;
      offsets[count] = value.kind === 'file' ? value.offset : 0;
      count++;
    }
    Atomics.store(header, 1, count);
    Atomics.add(header, 0, 1);
  }
}

function kindOf(trap: Trap): number {
  switch (trap.kind) {
    case 'call':
      return trap.post ? TRAP_KIND.callPost : TRAP_KIND.call;
    case 'shared':
      return TRAP_KIND.shared;
    case 'msix-table':
      return TRAP_KIND.msixTable;
    case 'latch':
      return TRAP_KIND.latch;
    case 'file':
      return TRAP_KIND.file;
    case 'config':
      return { ecam: TRAP_KIND.ecam, 'address-port': TRAP_KIND.addressPort, 'data-port': TRAP_KIND.dataPort }[trap.via];
  }
}
