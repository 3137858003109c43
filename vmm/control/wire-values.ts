/** Single values as messages hold them: numbers of 64 bits, enums. */
import { CausewayError } from '../base/errors.ts';

/** @throws CausewayError INTERNAL for a number that would be rounded */
export function toNumber(value: bigint): number {
  if (value <= BigInt(Number.MAX_SAFE_INTEGER) && value >= BigInt(Number.MIN_SAFE_INTEGER)) return Number(value);
  throw new CausewayError('INTERNAL', `${value} is beyond 2^53, the largest number that is handled exactly`);
}

/** The fields that were not left out. */
export function given<T extends object>(fields: T): { [K in keyof T]: NonNullable<T[K]> } {
  const present = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(present) as { [K in keyof T]: NonNullable<T[K]> };
}

/** One enum, both ways. */
export interface Table<Model, Wire> {
  to(value: Model): Wire;
  /** @throws CausewayError INTERNAL for what this version does not know */
  from(value: Wire): Model;
}

export function table<Model extends string, Wire extends string>(
  wire: Readonly<Record<Model, Wire>>,
): Table<Model, Wire> {
  const model = new Map(Object.entries(wire).map(([ours, theirs]) => [theirs as Wire, ours as Model]));
  return {
    to: (value) => wire[value],
    from: (value) => {
      const found = model.get(value);
      if (found === undefined) throw unknownToUs(value);
      return found;
    },
  };
}

export function unknownToUs(what: string): CausewayError {
  return new CausewayError('INTERNAL', `the VM sent something that is not known here: ${what}`, {
    hint: 'the VM may run another version of Causeway',
  });
}
