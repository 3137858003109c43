import { expect, test } from 'vitest';
import { GIB, MIB } from '../base/bits.ts';
import { endOf, overlaps } from '../base/ranges.ts';
import { memoryLayout } from './layout.ts';

// Enforces P17.
test.each([36, 39, 40, 46, 48, 52])(
  'with %d address bits the 64-bit window ends where they end, clear of RAM',
  (bits) => {
    for (const ramBytes of [512 * MIB, 6 * GIB, 40 * GIB]) {
      const { ram, mmio64 } = memoryLayout(ramBytes, bits);
      expect(endOf(mmio64)).toBeLessThanOrEqual(2 ** Math.min(bits, 48));
      if (bits > 36) expect(mmio64.size).toBeGreaterThanOrEqual(32 * GIB);
      for (const range of ram) expect(overlaps(range, mmio64)).toBe(false);
    }
  },
);
