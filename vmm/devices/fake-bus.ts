/** A bus for tests of devices: does to traps what vCPU and machine thread do, on one thread. */
import { ones, readLe, writeLe } from '../base/bits.ts';
import { AddressSpace } from '../base/ranges.ts';
import type { Trap, TrapMap } from '../bus/trap.ts';
import type { DeviceBus } from './device.ts';

export class FakeBus implements DeviceBus {
  readonly ports: TrapMap;
  /** Levels of the interrupt lines that were ever set, and every change in order. */
  readonly irqs = new Map<number, boolean>();
  readonly irqChanges: string[] = [];
  /** Accesses that needed the machine thread and made the guest wait. */
  calls = 0;
  readonly #traps = new AddressSpace<Trap & { readonly post?: boolean }>();
  #posted: (() => void)[] = [];

  constructor() {
    this.ports = {
      add: (start, size, trap) => this.#traps.insert({ start, size }, trap),
      remove: (start) => void this.#traps.remove(start),
      isFree: (start, size) => this.#traps.isFree({ start, size }),
      accessCounts: () => [],
      allocateShared: (sizeBytes) => new Uint8Array(sizeBytes),
      releaseShared: () => {},
    };
  }

  setIrq(gsi: number, level: boolean): void {
    this.irqs.set(gsi, level);
    this.irqChanges.push(`${gsi}${level ? '+' : '-'}`);
  }

  /** IN. Posted writes come first only when the read is a call. */
  in(port: number, width = 1): number {
    const found = this.#traps.find(port, width);
    if (!found) return ones(width);
    const offset = port - found.range.start;
    if (found.value.kind === 'shared' || found.value.kind === 'latch') return readLe(found.value.bytes, offset, width);
    if (found.value.kind !== 'call') throw new Error(`no ${found.value.kind} traps on this bus`);
    this.drain();
    this.calls++;
    return found.value.handler.read(offset, width) >>> 0;
  }

  /** OUT. */
  out(port: number, value: number, width = 1): void {
    const found = this.#traps.find(port, width);
    if (!found) return;
    const trap = found.value;
    if (trap.kind === 'latch') {
      writeLe(trap.bytes, port - found.range.start, width, value);
      return;
    }
    if (trap.kind === 'file') throw new Error('no file traps on this bus');
    const write = (): void => trap.handler.write(port - found.range.start, width, value >>> 0);
    if (trap.post) {
      this.#posted.push(write);
      return;
    }
    this.drain();
    this.calls++;
    write();
  }

  /** The machine thread takes the posted writes. */
  drain(): void {
    const posted = this.#posted;
    this.#posted = [];
    for (const write of posted) write();
  }
}
