import fc from 'fast-check';
import { expect, test } from 'vitest';
import { alignDown, alignUp, high32, isPowerOfTwo, join32, low32, ones, readLe, writeLe } from './bits.ts';

const below53 = fc.nat(Number.MAX_SAFE_INTEGER);

test('halves of a number below 2^53 join to the same number', () => {
  fc.assert(fc.property(below53, (value) => join32(low32(value), high32(value)) === value));
});

test('alignment rounds to the neighbouring multiples', () => {
  const aligns = fc.integer({ min: 0, max: 30 }).map((bits) => 2 ** bits);
  fc.assert(
    fc.property(fc.nat(2 ** 40), aligns, (value, align) => {
      const [down, up] = [alignDown(value, align), alignUp(value, align)];
      return down % align === 0 && up % align === 0 && down <= value && value <= up && up - down <= align;
    }),
  );
  expect(alignUp(2 ** 40 + 1, 4096)).toBe(2 ** 40 + 4096);
});

test('little-endian bytes come back, high bit included', () => {
  fc.assert(
    fc.property(fc.constantFrom(1, 2, 4), fc.nat(0xffff_ffff), (width, value) => {
      const bytes = new Uint8Array(8).fill(0x55);
      const cut = value % 2 ** (8 * width);
      writeLe(bytes, 2, width, cut);
      return readLe(bytes, 2, width) === cut && bytes[1] === 0x55 && bytes[2 + width] === 0x55;
    }),
  );
});

test('powers of two and all-ones by width', () => {
  expect([0, 1, 2, 3, 4096, -2, 2 ** 40].map(isPowerOfTwo)).toEqual([false, true, true, false, true, false, true]);
  expect([1, 2, 4].map(ones)).toEqual([0xff, 0xffff, 0xffff_ffff]);
});
