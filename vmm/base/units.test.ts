import { expect, test } from 'vitest';
import { formatSize, hex, parseSize } from './units.ts';

test.each([
  ['512M', 512 * 2 ** 20],
  ['6GiB', 6 * 2 ** 30],
  ['1.5G', 1.5 * 2 ** 30],
  [' 64 kb ', 65536],
  ['4096', 4096],
])('%s is a size', (text, bytes) => expect(parseSize(text)).toBe(bytes));

test.each(['', '0', '-1', '1X', 'M', '1e3', '0x10', '1.0001K', '99999999T', '512MM', 'NaN'])('%j is no size', (text) =>
  expect(parseSize(text)).toBeUndefined(),
);

test('sizes print in the largest exact unit', () => {
  expect([131072, 16 * 2 ** 20, 6 * 2 ** 30, 1000].map(formatSize)).toEqual(['128 KiB', '16 MiB', '6 GiB', '1000 B']);
  expect(hex(0xfee, 8)).toBe('0x00000fee');
});
