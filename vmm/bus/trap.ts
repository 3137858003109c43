/**
 * What happens when a guest touches an address that no memory slot covers. A trap is declared once; the vCPU threads
 * answer what they can themselves and call the machine thread for the rest.
 */
import type { Fd } from '../../native/types.ts';

/** Handlers on the machine thread. `offset` is relative to the trap; values are unsigned, 1, 2 or 4 bytes wide. */
export interface TrapHandler {
  read(offset: number, width: number): number;
  write(offset: number, width: number, value: number): void;
}

/**
 * - `call`: reads and writes go to the machine thread and complete before the guest goes on.
 *   An 8-byte access is split into two of 4 bytes, low half first; one that crosses the trap's end is dropped.
 *   With `post: true` writes are queued: the guest goes on at once, order is kept, and any later call of that vCPU
 *   comes after them.
 * - `shared`: reads are answered on the vCPU thread from `bytes` (part of the bus's shared memory, see
 *   {@link TrapMap.allocateShared}), which only the machine thread writes. Writes as with `call`, none of them posted.
 * - `msix-table`: as `shared`, but what is written into an entry that its mask bit holds back, before and after, is stored on
 *   the vCPU thread: it means nothing before the entry is unmasked, which is a call.
 * - `latch`: reads and writes are answered on the vCPU thread from `bytes`, which both threads may write. Nobody is told of a
 *   write; who wants to know looks.
 * - `file`: reads and writes are one pread or pwrite of the same width on `fd`, done on the vCPU thread: a device's
 *   own registers. A failing read gives all ones, a failing write is dropped; both are counted.
 * - `config`: PCI config space. Reads are answered on the vCPU thread from the functions' config windows, writes are
 *   calls. `via` names the way: memory-mapped, or the port pair 0xcf8 (a latch) and 0xcfc.
 */
export type Trap = UncountedTrap & {
  /**
   * Counts the accesses to each page of the trap. Called on the machine thread after every {@link BURST_ACCESSES} of one
   * page, with that page's offset from the trap's start.
   */
  readonly onBurst?: (offset: number) => void;
};

/** After so many accesses to one page the machine thread hears of it. A power of two. */
export const BURST_ACCESSES = 16384;

/** Accesses to a page, or to several where a trap has too many for one counter each. */
export interface AccessCount {
  /** From the trap's start; of the page's first byte that belongs to the trap. */
  readonly offset: number;
  readonly accesses: number;
}

type UncountedTrap =
  | { readonly kind: 'call'; readonly name: string; readonly post?: boolean; readonly handler: TrapHandler }
  | {
      readonly kind: 'shared' | 'msix-table';
      readonly name: string;
      readonly bytes: Uint8Array;
      readonly handler: TrapHandler;
    }
  | { readonly kind: 'latch'; readonly name: string; readonly bytes: Uint8Array }
  | { readonly kind: 'file'; readonly name: string; readonly fd: Fd; readonly offset: number }
  | {
      readonly kind: 'config';
      readonly name: string;
      readonly via: 'ecam' | 'address-port' | 'data-port';
      readonly handler: TrapHandler;
    };

/** The traps of one space (memory or ports). Owned by the machine thread; changes reach vCPU threads at once. */
export interface TrapMap {
  /** @throws RangeError when it overlaps another trap or the table is full */
  add(start: number, size: number, trap: Trap): void;
  /** Removes the trap that starts there; ignored when there is none. */
  remove(start: number): void;
  isFree(start: number, size: number): boolean;
  /** Accesses so far to the trap that starts there, if it counts them; only what was touched, in ascending order. */
  accessCounts(start: number): readonly AccessCount[];
  /** Zeroed bytes of the bus's shared memory for a trap that has `bytes`. @throws RangeError when it is used up */
  allocateShared(sizeBytes: number): Uint8Array;
  /** Gives them back; no trap may use them any more. */
  releaseShared(bytes: Uint8Array): void;
}
