import fc from 'fast-check';
import { expect, test } from 'vitest';
import { GIB, MIB } from '../base/bits.ts';
import { endOf, overlaps } from '../base/ranges.ts';
import { BarRegisters, decodeBars } from './bar-registers.ts';
import type { BarRequest } from './function.ts';

const request = (index: number, sizeBytes: number, rest: Partial<BarRequest> = {}): BarRequest => {
  return { index, sizeBytes, kind: 'memory', is64: false, prefetchable: false, ...rest };
};
const BARS = [
  request(0, 0x20000),
  request(1, 32, { kind: 'port' }),
  request(2, 4 * MIB, { is64: true, prefetchable: true }),
  request(4, 8 * GIB, { is64: true }),
];
const STATE = {
  portDecode: true,
  memoryDecode: true,
  powered: true,
  memoryWindows: [
    { start: 0xc000_0000, size: 0x2000_0000 },
    { start: 64 * GIB, size: 64 * GIB },
  ],
  portWindow: { start: 0x1000, size: 0xf000 },
};

// Enforces C21, P1.
test('sizing by all ones, with or without the type bits, tells size and type and maps nothing', () => {
  const bars = new BarRegisters(BARS);
  for (const ones of [0xffff_ffff, 0xffff_fff0]) {
    for (let register = 0; register < 6; register++) bars.write(register, ones);
    expect([0, 1, 2, 3, 4, 5].map((register) => bars.read(register).toString(16))).toEqual([
      'fffe0000',
      'ffffffe1',
      'ffc0000c',
      ones === 0xffff_ffff ? 'ffffffff' : 'fffffff0',
      '4',
      ones === 0xffff_ffff ? 'fffffffe' : 'fffffff0',
    ]);
    expect(decodeBars(bars, STATE)).toEqual([]);
  }
});

// Enforces P2.
test('the lower half of a 64-bit BAR may be sized while the upper holds an address: nothing is mapped meanwhile', () => {
  const bars = new BarRegisters(BARS);
  bars.place(2, 65 * GIB);
  expect(decodeBars(bars, STATE)).toHaveLength(1);
  bars.write(2, 0xffff_ffff);
  expect(decodeBars(bars, STATE)).toEqual([]);
  bars.write(2, 0x4000_0000);
  expect(decodeBars(bars, STATE)).toMatchObject([{ index: 2, gpa: 65 * GIB }]);
});

// Enforces P2.
test('a 64-bit BAR may be written high half first', () => {
  const bars = new BarRegisters(BARS);
  bars.write(3, 0x11);
  bars.write(2, 0x4000_000c);
  expect(bars.address(2)).toBe(0x11_4000_0000);
});

// Enforces D42, P4.
test('address 0, RAM, a range past a window and one that wraps are not decoded', () => {
  const bars = new BarRegisters(BARS);
  for (const address of [0, 0x10_0000, 0xbffe_0000, 0xe000_0000, 0xfffe_0000]) {
    bars.place(0, address);
    expect(decodeBars(bars, STATE)).toEqual([]);
  }
  bars.place(4, 120 * GIB);
  expect(decodeBars(bars, STATE)).toMatchObject([{ index: 4 }]);
  bars.place(4, 124 * GIB);
  expect(decodeBars(bars, STATE), '8 GiB aligned: 120 GiB').toMatchObject([{ gpa: 120 * GIB }]);
  bars.write(5, 0xffff_fffe);
  expect(decodeBars(bars, STATE)).toEqual([]);
});

// Enforces D42, P3.
test('of two BARs at one address the first is decoded; decode bits and D3 switch off', () => {
  const bars = new BarRegisters(BARS);
  bars.place(0, 0xc000_0000);
  bars.place(1, 0x2000);
  bars.place(2, 0xc000_0000);
  const indices = (state: Partial<typeof STATE>): number[] =>
    decodeBars(bars, { ...STATE, ...state }).map(({ index }) => index);
  expect(indices({})).toEqual([0, 1]);
  expect(indices({ portDecode: false })).toEqual([0]);
  expect(indices({ memoryDecode: false })).toEqual([1]);
  expect(indices({ powered: false })).toEqual([]);
});

// Enforces C21.
test('registers that no BAR has read 0 and take nothing', () => {
  const bars = new BarRegisters([request(0, 4096)]);
  bars.write(1, 0xffff_ffff);
  bars.write(5, 0x1234_5678);
  expect([1, 5].map((register) => bars.read(register))).toEqual([0, 0]);
});

// Enforces D42.
test('whatever is written, decoded BARs are aligned, inside a window and apart', () => {
  const write = fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 0xffff_ffff }));
  fc.assert(
    fc.property(fc.array(write, { maxLength: 20 }), (writes) => {
      const bars = new BarRegisters(BARS);
      for (const [register, value] of writes) {
        bars.write(register, value);
        const decoded = decodeBars(bars, STATE);
        for (const [i, bar] of decoded.entries()) {
          const range = { start: bar.gpa, size: bar.sizeBytes };
          const windows = bar.kind === 'port' ? [STATE.portWindow] : STATE.memoryWindows;
          expect(bar.gpa % bar.sizeBytes).toBe(0);
          expect(windows.some((window) => range.start >= window.start && endOf(range) <= endOf(window))).toBe(true);
          for (const other of decoded.slice(i + 1)) {
            if (other.kind === bar.kind)
              expect(overlaps(range, { start: other.gpa, size: other.sizeBytes })).toBe(false);
          }
        }
      }
    }),
  );
});
