import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Msix, parseMsix } from './msix.ts';

const ENABLE = 0x8000;
const FUNCTION_MASK = 0x4000;

function arm(msix: Msix, vector: number, data: number): void {
  msix.writeTable(16 * vector, 4, 0xfee0_1000);
  msix.writeTable(16 * vector + 8, 4, data);
  msix.writeTable(16 * vector + 12, 4, 0);
}

test('the capability of an e1000e: five vectors, table and pending bits in BAR 3', () => {
  const config = Uint8Array.of(0x11, 0, 0x04, 0, 0x03, 0, 0, 0, 0x03, 0x20, 0, 0);
  expect(parseMsix(config, 0)).toEqual({
    vectorCount: 5,
    table: { bar: 3, offset: 0, sizeBytes: 80 },
    pending: { bar: 3, offset: 0x2000, sizeBytes: 8 },
  });
});

test('after a reset everything is off and masked', () => {
  const msix = new Msix(3, () => false);
  expect(msix.control).toBe(2);
  expect([0, 1, 2].map((vector) => msix.readTable(16 * vector + 12, 4))).toEqual([1, 1, 1]);
  msix.control = 0xffff;
  expect(msix.control, 'the count is read-only').toBe(0xc002);
  msix.reset();
  expect(msix.control).toBe(2);
});

// Enforces E51.
test('a vector is desired while MSI-X is on and neither mask is set', () => {
  const msix = new Msix(4, () => false);
  arm(msix, 2, 0x42);
  expect(msix.desiredVectors()).toEqual([]);
  msix.control = ENABLE | FUNCTION_MASK;
  expect(msix.desiredVectors()).toEqual([]);
  msix.control = ENABLE;
  const message = { addressLo: 0xfee0_1000, addressHi: 0, data: 0x42 };
  expect(msix.desiredVectors()).toEqual([{ vector: 2, message }]);
  msix.writeTable(16 * 2 + 12, 1, 1);
  expect(msix.desiredVectors()).toEqual([]);
});

test('a table moved into other memory keeps its content', () => {
  const msix = new Msix(2, () => false);
  arm(msix, 1, 7);
  const bytes = new Uint8Array(msix.tableBytes);
  msix.useTable(bytes);
  expect(msix.readTable(24, 4)).toBe(7);
  msix.writeTable(24, 4, 9);
  expect(bytes[24]).toBe(9);
});

test('pending bits are asked for one by one, beyond the last vector they are 0', () => {
  const asked: number[] = [];
  const msix = new Msix(10, (vector) => {
    asked.push(vector);
    return vector % 3 === 0;
  });
  expect(msix.readPending(0, 4)).toBe(0b10_0100_1001);
  expect(asked).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(msix.readPending(1, 1)).toBe(0b10);
  expect(msix.readPending(8, 4)).toBe(0);
  expect(new Msix(32, () => true).readPending(0, 4)).toBe(0xffff_ffff);
});

test('any access to the table is bounded, and reserved bits stay 0', () => {
  const access = fc.record({
    offset: fc.integer({ min: -64, max: 128 }),
    width: fc.constantFrom(1, 2, 4),
    value: fc.integer({ min: 0, max: 0xffff_ffff }),
  });
  fc.assert(
    fc.property(fc.array(access), (accesses) => {
      const msix = new Msix(4, () => false);
      for (const { offset, width, value } of accesses) {
        msix.writeTable(offset, width, value);
        msix.readTable(offset, width);
      }
      for (let vector = 0; vector < 4; vector++) {
        expect(msix.readTable(16 * vector, 4) & 3).toBe(0);
        expect(msix.readTable(16 * vector + 12, 4) & ~1).toBe(0);
      }
    }),
  );
});
