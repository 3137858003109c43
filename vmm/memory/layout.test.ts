import { expect, test } from 'vitest';
import { GIB, MIB } from '../base/bits.ts';
import { endOf, overlaps } from '../base/ranges.ts';
import { memoryLayout, withinReach } from './layout.ts';

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

test('a narrow processor with much RAM keeps what is left for BARs', () => {
  const { mmio64, ram } = memoryLayout(40 * GIB, 36);
  expect(mmio64.size).toBeGreaterThanOrEqual(16 * GIB);
  expect(endOf(mmio64)).toBe(64 * GIB);
  expect(mmio64.start).toBeGreaterThanOrEqual(endOf(ram.at(-1)!));
});

// Enforces P17.
test('the 64-bit window is kept to what the IOMMU reaches, and stays where that is nothing', () => {
  const layout = memoryLayout(4 * GIB, 46);
  const narrow = withinReach(layout, [
    { start: 0, size: 0xfee0_0000 },
    { start: 0xfef0_0000, size: 2 ** 39 - 0xfef0_0000 },
  ]);
  expect(narrow.mmio64.start).toBe(layout.mmio64.start);
  expect(endOf(narrow.mmio64)).toBe(2 ** 39);
  const holes = [
    { start: 64 * GIB, size: GIB },
    { start: 100 * GIB, size: 50 * GIB },
  ];
  expect(withinReach(layout, holes).mmio64).toEqual(holes[1]);
  expect(withinReach(layout, [{ start: 0, size: 4 * GIB }])).toBe(layout);
});
