/** Which IOAPIC pin each INTx pin of the root bus leads to. Pure. */
import { FIRST_FREE_PIN, IOAPIC_PINS } from '../irq/irq-router.ts';
import type { SlotPlan } from './topology.ts';

export interface IntxWire {
  /** Device number on the root bus. */
  readonly device: number;
  /** 0 to 3 for INTA to INTD. */
  readonly pin: number;
  readonly gsi: number;
}

const PINS = 4;

/**
 * Each function gets an IOAPIC pin of its own while there are enough: a level line that is shared works, but costs spurious
 * unmasks. What is behind a port arrives at the port's own pins, unturned, because its device number is 0.
 */
export function wireIntx(slots: readonly SlotPlan[]): IntxWire[] {
  let used = 0;
  const next = (): number => FIRST_FREE_PIN + (used++ % (IOAPIC_PINS - FIRST_FREE_PIN));
  return slots.flatMap(({ functions }, index) => {
    const first = next();
    const pins = new Set(functions.map(({ number }) => number % PINS));
    return Array.from({ length: PINS }, (_, pin) => ({
      device: index + 1,
      pin,
      gsi: pin > 0 && pins.has(pin) ? next() : first,
    }));
  });
}
