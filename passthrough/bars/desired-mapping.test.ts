import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { endOf, overlaps, type Range } from '../../vmm/base/ranges.ts';
import type { BarRequest } from '../../vmm/pci/function.ts';
import type { Region } from '../vfio/regions.ts';
import { type BackedArea, desiredMapping, splitBar } from './desired-mapping.ts';
import type { MsixPlacement } from './msix-relocation.ts';

const PAGE = 4096;
const request = (sizeBytes: number, kind: 'memory' | 'port' = 'memory'): BarRequest => {
  return { index: 0, sizeBytes, kind, is64: false, prefetchable: false };
};
const region = (sizeBytes: number, mmapAreas: readonly Range[] = [{ start: 0, size: sizeBytes }]): Region => {
  return { index: 0, sizeBytes, fdOffset: 0, flags: 7, mmapAreas };
};
const msix = (table: number, pending: number, vectorCount = 8): MsixPlacement => {
  const layout = {
    vectorCount,
    table: { bar: 0, offset: table, sizeBytes: vectorCount * 16 },
    pending: { bar: 0, offset: pending, sizeBytes: Math.ceil(vectorCount / 64) * 8 },
  };
  return { guest: layout, hardware: layout, isRelocated: false, bars: [] };
};
const brief = (areas: readonly BackedArea[]): unknown[] =>
  areas.map(({ offset, sizeBytes, mode, why }) => [offset, sizeBytes, why ?? mode]);

describe('a BAR is split into', () => {
  test('one direct area when nothing is in it', () => {
    expect(brief(splitBar(request(0x10000), region(0x10000), undefined, PAGE))).toEqual([[0, 0x10000, 'direct']]);
  });

  // Enforces P12.
  test('table and pending bits with the rest of their pages trapped', () => {
    expect(brief(splitBar(request(0x8000), region(0x8000), msix(0x2010, 0x5ff8), PAGE))).toEqual([
      [0, 0x2000, 'direct'],
      [0x2000, 0x10, 'beside msix'],
      [0x2010, 0x80, 'msix-table'],
      [0x2090, 0xf70, 'beside msix'],
      [0x3000, 0x2000, 'direct'],
      [0x5000, 0xff8, 'beside msix'],
      [0x5ff8, 8, 'msix-pba'],
      [0x6000, 0x2000, 'direct'],
    ]);
  });

  // Enforces A3, P16.
  test('a trap for ports, and for what the kernel does not map', () => {
    expect(brief(splitBar(request(32, 'port'), region(32, []), undefined, PAGE))).toEqual([[0, 32, 'io-bar']]);
    expect(brief(splitBar(request(0x1000), region(0x1000, []), undefined, PAGE))).toEqual([[0, 0x1000, 'no-mmap']]);
  });

  // Enforces P11.
  test('sparse areas, with the gaps trapped', () => {
    const areas = [
      { start: 0, size: 0x2000 },
      { start: 0x4000, size: 0x1800 },
    ];
    expect(brief(splitBar(request(0x8000), region(0x8000, areas), undefined, PAGE))).toEqual([
      [0, 0x2000, 'direct'],
      [0x2000, 0x2000, 'not mappable'],
      [0x4000, 0x1000, 'direct'],
      [0x5000, 0x3000, 'not mappable'],
    ]);
  });

  test('the page that the kernel reserved for a BAR smaller than one', () => {
    const page = [{ start: 0, size: PAGE }];
    expect(brief(splitBar(request(PAGE), region(256, page), undefined, PAGE))).toEqual([[0, PAGE, 'direct']]);
    expect(brief(splitBar(request(PAGE), region(256, []), undefined, PAGE))).toEqual([[0, 256, 'no-mmap']]);
  });
});

// Enforces D46, P12.
test('wherever the table lies, areas cover the region once and no direct one touches its pages', () => {
  const at = fc.integer({ min: 0, max: 0xfff }).map((n) => n * 8);
  fc.assert(
    fc.property(at, at, fc.integer({ min: 1, max: 64 }), (table, pending, vectors) => {
      const areas = splitBar(request(0x8000), region(0x8000), msix(table, pending, vectors), PAGE);
      const ranges = areas.map(({ offset, sizeBytes }) => ({ start: offset, size: sizeBytes }));
      for (const [i, range] of ranges.entries()) {
        expect(range.start).toBe(i === 0 ? 0 : endOf(ranges[i - 1]!));
        expect(range.size).toBeGreaterThan(0);
      }
      expect(endOf(ranges.at(-1)!)).toBe(0x8000);
      const emulated = areas.filter(({ backing }) => backing !== 'device');
      for (const direct of areas.filter(({ mode }) => mode === 'direct')) {
        expect(direct.offset % PAGE).toBe(0);
        expect(direct.sizeBytes % PAGE).toBe(0);
        const range = { start: direct.offset, size: direct.sizeBytes };
        for (const { offset, sizeBytes } of emulated) {
          expect(overlaps(range, { start: offset, size: sizeBytes })).toBe(false);
        }
      }
    }),
  );
});

test('pieces lie where their BAR is decoded', () => {
  const areas = splitBar(request(0x8000), region(0x8000), msix(0, 0x1000), PAGE);
  const pieces = desiredMapping([{ index: 0, kind: 'memory', gpa: 0xc000_0000, sizeBytes: 0x8000 }], () => areas);
  expect(pieces.map(({ gpa }) => gpa)).toEqual(areas.map(({ offset }) => 0xc000_0000 + offset));
  expect(desiredMapping([], () => areas)).toEqual([]);
});
