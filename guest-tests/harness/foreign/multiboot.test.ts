/** Multiboot kernels become PVH kernels that the loader takes. */
import { expect, test } from 'vitest';
import { readLe, writeLe } from '../../../vmm/base/bits.ts';
import { parseElf } from '../../../vmm/boot/elf.ts';
import { isMultiboot, multibootToPvh } from './multiboot.ts';

const LOAD_AT = 0x40_0000;

/** A 32-bit ELF with a multiboot header before its code. */
function multibootKernel(code: readonly number[], loadAt: number = LOAD_AT): Uint8Array {
  const file = new Uint8Array(0x100 + code.length);
  file.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  const put = (at: number, width: number, value: number): void => writeLe(file, at, width, value);
  for (const [at, width, value] of [
    [16, 2, 2],
    [18, 2, 3],
    [20, 4, 1],
    [24, 4, loadAt + 0x10],
    [28, 4, 52],
    [42, 2, 32],
    [44, 2, 1],
    // PT_LOAD of everything from 0xf0 on
    [52, 4, 1],
    [56, 4, 0xf0],
    [60, 4, loadAt],
    [64, 4, loadAt],
    [68, 4, 0x10 + code.length],
    [72, 4, 0x2000],
    [0xf0, 4, 0x1bad_b002],
    [0xf8, 4, 0x1_0000_0000 - 0x1bad_b002],
  ] as const) {
    put(at, width, value);
  }
  file.set(code, 0x100);
  return file;
}

test('entry, registers, command line and memory', () => {
  const file = multibootKernel([0xf4]);
  expect(isMultiboot(file)).toBe(true);
  const elf = multibootToPvh(file, 'apic.flat', 'apic.flat -x 1', 64 * 2 ** 20);
  const { segments, pvhEntry } = parseElf((at, size) => elf.subarray(at, at + size), elf.length, 'x');
  expect(segments.map(({ gpa, memorySize }) => [gpa, memorySize])).toEqual([
    [pvhEntry, 0x1000],
    [LOAD_AT, 0x2000],
  ]);
  const stub = elf.subarray(segments[0]!.offset, segments[0]!.offset + segments[0]!.fileSize);
  expect([readLe(stub, 1, 4), readLe(stub, 11, 4)]).toEqual([0x2bad_b002, LOAD_AT + 0x10]);
  const info = readLe(stub, 6, 4) - pvhEntry!;
  expect(readLe(stub, info + 8, 4), 'KiB above 1 MiB').toBe(63 * 1024);
  const text = (at: number): string =>
    Buffer.from(stub.subarray(at - pvhEntry!))
      .toString()
      .split('\0')[0]!;
  expect(text(readLe(stub, info + 16, 4))).toBe('apic.flat -x 1');
  expect(readLe(stub, readLe(stub, info + 48, 4) - pvhEntry! + 24, 4), 'the second range of the map').toBe(20);
});

test('what is none is told', () => {
  const broken = multibootKernel([0xf4]);
  writeLe(broken, 0xf4, 4, 1);
  expect(isMultiboot(broken), 'the checksum does not fit').toBe(false);
  expect(isMultiboot(new Uint8Array(8))).toBe(false);
  expect(() => multibootToPvh(multibootKernel([0xf4], 0x8_0000), 'low.flat', '', 2 ** 26)).toThrow(/512 KiB/);
  expect(() => multibootToPvh(new Uint8Array(64), 'x', '', 2 ** 26)).toThrow(/32-bit ELF/);
  expect(() => multibootToPvh(multibootKernel([0xf4]), 'x', 'a'.repeat(5000), 2 ** 26)).toThrow(/too long/);
});
