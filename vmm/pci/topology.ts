/** Where functions stand in the guest's PCI hierarchy: on the root bus, or behind a root port. Pure data. */
import type { PciFunction } from './function.ts';

export interface PlacedFunction {
  readonly fn: PciFunction;
  /** Function number, 0 to 7. A slot that holds anything holds a function 0. */
  readonly number: number;
}

/** One device number of the root bus, from 1 on in the order of the plan. */
export interface SlotPlan {
  /** Name of the root port that stands there; undefined when the functions themselves do. */
  readonly port: string | undefined;
  /** Functions of one device; none behind a port that is spare. */
  readonly functions: readonly PlacedFunction[];
}

/** Device numbers of the root bus that are there to be given; 0 is the host bridge. */
export const ROOT_BUS_SLOTS = 31;

/** Buses that exist: the root bus, and one behind each port. */
export function busCount(slots: readonly SlotPlan[]): number {
  return 1 + slots.filter(({ port }) => port !== undefined).length;
}

/**
 * Function numbers for functions that were together in one device of the host: they keep theirs, but without a function 0
 * a guest would not look for the others (PCI 3.0 §3.2.2.3.4), so the lowest becomes it.
 */
export function numberFunctions(hostNumbers: readonly number[]): number[] {
  const lowest = Math.min(...hostNumbers);
  return hostNumbers.map((number) => (number === lowest ? 0 : number));
}
