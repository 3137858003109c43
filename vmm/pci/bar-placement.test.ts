import { expect, it } from 'vitest';
import { GIB, MIB } from '../base/bits.ts';
import { endOf, overlaps } from '../base/ranges.ts';
import { memoryLayout } from '../memory/layout.ts';
import { PORT_WINDOW, placeSlots } from './bar-placement.ts';
import type { BarRequest, PciFunction } from './function.ts';

const windows = { ...memoryLayout(GIB, 40), ports: PORT_WINDOW };
const bar = (index: number, sizeBytes: number, more: Partial<BarRequest> = {}): BarRequest => ({
  index,
  sizeBytes,
  kind: 'memory',
  is64: false,
  prefetchable: false,
  ...more,
});
/** Each function on the root bus. */
const placeBars = (functions: readonly PciFunction[], within = windows) =>
  placeSlots(
    functions.map((each) => ({ port: undefined, functions: [{ fn: each, number: 0 }] })),
    within,
  ).bars;
const fn = (...bars: BarRequest[]) => ({ label: 'test', bars }) as unknown as PciFunction;

it('aligns naturally, keeps BARs apart, and sorts them into their windows', () => {
  const placed = placeBars(
    [
      fn(bar(0, 0x20000), bar(1, 0x20000), bar(2, 0x20, { kind: 'port' }), bar(3, 0x4000)),
      fn(bar(0, 8 * GIB, { is64: true, prefetchable: true })),
    ],
    windows,
  );
  for (const { bar: want, address } of placed) expect(address % want.sizeBytes).toBe(0);
  const ranges = placed.map(({ bar: want, address }) => ({ start: address, size: want.sizeBytes }));
  for (const a of ranges) for (const b of ranges) if (a !== b) expect(overlaps(a, b)).toBe(false);
  expect(placed[0]!.address).toBeGreaterThanOrEqual(windows.mmio64.start);
  expect(placed.find((p) => p.bar.kind === 'port')!.address).toBeGreaterThanOrEqual(PORT_WINDOW.start);
});

it('lets a 64-bit BAR go above 4 GiB when there is no room below', () => {
  const [big] = placeBars([fn(bar(0, GIB, { is64: true }))], windows);
  expect(big!.address).toBeGreaterThanOrEqual(windows.mmio64.start);
});

it('says which BAR does not fit', () => {
  expect(() => placeBars([fn(bar(0, 512 * MIB), bar(1, 512 * MIB))], windows)).toThrow(/BAR 1 of 512 MiB does not fit/);
});

it('has the RAM of a big guest on both sides of the hole, and its window above', () => {
  const layout = memoryLayout(6 * GIB, 40);
  expect(layout.ram).toEqual([
    { start: 0, size: 3 * GIB },
    { start: 4 * GIB, size: 3 * GIB },
  ]);
  expect(layout.mmio64.start).toBeGreaterThanOrEqual(endOf(layout.ram[1]!));
  expect(endOf(layout.mmio64)).toBeLessThanOrEqual(2 ** 40);
  expect(memoryLayout(2 * GIB, 36).mmio64).toEqual({ start: 32 * GIB, size: 32 * GIB });
});
