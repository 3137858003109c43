/** Answers of INFO ioctls that are wrong in every way: nothing throws, nothing outside is read, what is right is kept. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseHotResetInfo } from '../reset/reset.ts';
import { walkInfoCapabilities } from './info-caps.ts';
import { parseIommuInfo, splitByIova } from './iova.ts';
import { parseRegionInfo } from './regions.ts';

const PAGE = 4096;

/** A region of 64 KiB that may be mapped, with capabilities [at, id, version, next]. */
function region(
  bytes: number,
  first: number,
  caps: readonly (readonly [number, number, number, number])[],
): Uint8Array {
  const view = new DataView(new ArrayBuffer(bytes));
  view.setUint32(0, bytes, true);
  view.setUint32(4, 0xf, true);
  view.setUint32(8, 2, true);
  view.setUint32(12, first, true);
  view.setBigUint64(16, 0x10000n, true);
  view.setBigUint64(24, 0x2_0000_0000n, true);
  for (const [at, id, version, next] of caps) {
    view.setUint16(at, id, true);
    view.setUint16(at + 2, version, true);
    view.setUint32(at + 4, next, true);
  }
  return new Uint8Array(view.buffer);
}

function sparse(
  bytes: Uint8Array,
  at: number,
  areas: readonly (readonly [number, number])[],
  count = areas.length,
): Uint8Array {
  const view = new DataView(bytes.buffer);
  view.setUint32(at + 8, count, true);
  for (const [i, [start, size]] of areas.entries()) {
    view.setBigUint64(at + 16 + 16 * i, BigInt(start), true);
    view.setBigUint64(at + 24 + 16 * i, BigInt(size), true);
  }
  return bytes;
}

test('a plain region may be mapped as a whole', () => {
  expect(parseRegionInfo(region(40, 32, [[32, 3, 1, 0]]))).toEqual({
    index: 2,
    sizeBytes: 0x10000,
    fdOffset: 0x2_0000_0000,
    flags: 0xf,
    mmapAreas: [{ start: 0, size: 0x10000 }],
  });
});

// Enforces P11.
test('sparse areas are taken as they are, behind a capability nobody knows', () => {
  const bytes = region(120, 32, [
    [32, 99, 7, 40],
    [40, 1, 1, 0],
  ]);
  const info = sparse(bytes, 40, [
    [0x8000, 0x1000],
    [0, 0x2000],
  ]);
  expect(parseRegionInfo(info).mmapAreas).toEqual([
    { start: 0, size: 0x2000 },
    { start: 0x8000, size: 0x1000 },
  ]);
});

// Enforces I84.
test('areas outside the region, empty or on top of each other are dropped, and so is what the answer does not hold', () => {
  const bytes = region(120, 32, [[32, 1, 1, 0]]);
  const info = sparse(
    bytes,
    32,
    [
      [0, 0x2000],
      [0x1000, 0x2000],
      [0xf000, 0x2000],
      [0x4000, 0],
    ],
    0xffff_ffff,
  );
  expect(parseRegionInfo(info).mmapAreas).toEqual([{ start: 0, size: 0x2000 }]);
});

// Enforces I84.
test('a chain that loops, points backwards or outside ends there', () => {
  const loop = region(48, 32, [
    [32, 9, 1, 40],
    [40, 8, 1, 32],
  ]);
  const view = new DataView(loop.buffer);
  expect(walkInfoCapabilities(view, 32).map(({ id }) => id)).toEqual([9, 8]);
  expect(walkInfoCapabilities(view, 44)).toEqual([]);
  expect(walkInfoCapabilities(view, 0xffff_fff0)).toEqual([]);
});

// Enforces F62, P35.
test('RAM is split by usable ranges at whole pages, never over the MSI window', () => {
  const info = {
    pageBytes: PAGE,
    mappingsLeft: 10,
    ranges: [
      { start: 0, size: 0x9_f800 },
      { start: 0x10_0000, size: 2 ** 39 },
    ],
  };
  expect(splitByIova({ start: 0, size: 0x20_0000 }, info)).toEqual({
    mappable: [
      { start: 0, size: 0x9_f000 },
      { start: 0x10_0000, size: 0x10_0000 },
    ],
    unreachable: [{ start: 0x9_f000, size: 0x6_1000 }],
  });
  const over = splitByIova({ start: 0xfe00_0000, size: 0x200_0000 }, { ...info, ranges: undefined });
  expect(over.unreachable).toEqual([{ start: 0xfee0_0000, size: 0x10_0000 }]);
  expect(over.mappable).toHaveLength(2);
});

// Enforces I84.
test('any bytes at all are parsed without a throw, and what comes out is sane', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 160 }), (bytes) => {
      const parsed = parseRegionInfo(bytes);
      for (const { start, size } of parsed.mmapAreas) {
        expect(size).toBeGreaterThan(0);
        expect(start + size).toBeLessThanOrEqual(parsed.sizeBytes);
      }
      const iommu = parseIommuInfo(bytes);
      expect(iommu.pageBytes).toBeGreaterThan(0);
      for (const range of iommu.ranges ?? []) expect(Number.isSafeInteger(range.start + range.size)).toBe(true);
      expect(parseHotResetInfo(bytes).length).toBeLessThanOrEqual(20);
    }),
  );
});
