/** A short run of the fuzzed guest; `npm run fuzz -- --operations 1000000` is the long one. */
import { expect, test } from 'vitest';
import { fuzz } from './fuzz.ts';

const OPERATIONS = 50_000;

// Enforces D42, D46, I87, P6, P38.
test.each([
  [1, false],
  [2, true],
])(
  'whatever a guest does on four vCPUs, the host is safe and the devices work after (seed %d, failing calls: %s)',
  (seed, faults) => {
    const figures = fuzz({ seed, faults, operations: OPERATIONS });
    expect(figures.operations).toBe(OPERATIONS);
    // A guest that hardly reaches anything proves nothing.
    expect(figures.stepsWithSlots).toBeGreaterThan(OPERATIONS / 4);
    expect(figures.interrupts).toBeGreaterThan(OPERATIONS / 200);
    expect(figures.reboots).toBeGreaterThan(10);
    expect(figures.guestResets).toBeGreaterThan(100);
  },
  280_000,
);
