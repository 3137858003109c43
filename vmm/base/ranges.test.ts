import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AddressSpace, contains, endOf, overlaps, type Range, subtract } from './ranges.ts';

const range = fc.record({ start: fc.nat(100), size: fc.integer({ min: 1, max: 40 }) });

function cells(r: Range): number[] {
  return Array.from({ length: r.size }, (_, i) => r.start + i);
}

test('overlap and containment agree with counting addresses', () => {
  fc.assert(
    fc.property(range, range, (a, b) => {
      const shared = cells(a).filter((cell) => cells(b).includes(cell)).length;
      return overlaps(a, b) === shared > 0 && contains(a, b) === (shared === b.size);
    }),
  );
});

test('subtract leaves exactly the addresses that no hole covers', () => {
  fc.assert(
    fc.property(range, fc.array(range, { maxLength: 6 }), (whole, holes) => {
      const covered = new Set(holes.flatMap(cells));
      const left = subtract(whole, holes);
      expect(left.flatMap(cells)).toEqual(cells(whole).filter((cell) => !covered.has(cell)));
    }),
  );
});

test('a range past the exact integers is refused', () => {
  expect(() => endOf({ start: Number.MAX_SAFE_INTEGER, size: 1 })).toThrow(RangeError);
});

test('an address space refuses overlaps, finds whole accesses only, and frees', () => {
  const space = new AddressSpace<string>();
  space.insert({ start: 0x100, size: 0x10 }, 'b');
  space.insert({ start: 0x80, size: 0x10 }, 'a');
  expect([...space].map((entry) => entry.value)).toEqual(['a', 'b']);
  expect(() => space.insert({ start: 0x10f, size: 1 }, 'c')).toThrow(RangeError);
  expect(() => space.insert({ start: 0x200, size: 0 }, 'c')).toThrow(RangeError);
  expect(space.find(0x10e, 2)?.value).toBe('b');
  expect(space.find(0x10f, 2)).toBeUndefined();
  expect(space.isFree({ start: 0x90, size: 0x70 })).toBe(true);
  expect(space.remove(0x100)).toBe(true);
  expect(space.remove(0x100)).toBe(false);
  expect(space.isFree({ start: 0x100, size: 0x10 })).toBe(true);
});
