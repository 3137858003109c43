import { expect, test } from 'vitest';
import type { Gpa, Hva, Process } from '../../native/types.ts';
import { type DmaTarget, RamMap } from './ram-map.ts';

const WINDOW = { gpa: 0 as Gpa, hva: 0x7f00_0000_0000 as Hva, sizeBytes: 0x20_0000 };

function unmapping(freed: number): unknown[] {
  const info = { pageBytes: 4096, ranges: undefined, mappingsLeft: 10 };
  const target: DmaTarget = { info: () => info, map: () => {}, unmap: () => freed };
  // Asked about the process's limits only when a mapping fails.
  const ram = new RamMap({} as Process, target, () => {});
  ram.map([WINDOW]);
  return ram.unmapAll();
}

test('what the kernel unmapped by itself is no failure; a part that stays mapped is one', () => {
  expect(unmapping(WINDOW.sizeBytes)).toEqual([]);
  expect(unmapping(0)).toEqual([]);
  expect(unmapping(0x1000)).toEqual([new Error('unmapped 4096 of 2097152 bytes at 0x0')]);
});
