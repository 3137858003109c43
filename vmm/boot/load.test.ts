import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FakeKernel } from '../../native/fake/fake-kernel.ts';
import type { SystemRegisters } from '../../native/types.ts';
import { alignUp, GIB, MIB, PAGE_SIZE, readLe } from '../base/bits.ts';
import { endOf, overlaps } from '../base/ranges.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { memoryLayout } from '../memory/layout.ts';
import { gdt, pageTables } from './cpu-state.ts';
import { prepareKernel } from './kernel-image.ts';
import { type BootInput, loadGuest } from './load.ts';
import { e820, placeInitrd, usableRam } from './memory-map.ts';
import { syntheticBzImage, syntheticElf } from './synthetic-kernel.test-util.ts';

function plainMemory(sizeBytes: number): GuestMemory {
  return new GuestMemory(new FakeKernel(), [{ start: 0, size: sizeBytes }]);
}

const layout = memoryLayout(64 * MIB, 46);
const acpi = { start: 0xe_0000, size: 0x2000 };
let dir = '';
let memory: GuestMemory;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'causeway-load-'));
  memory = plainMemory(64 * MIB);
});
afterAll(() => rmSync(dir, { recursive: true }));

async function load(kernel: Uint8Array, more: Partial<BootInput> = {}) {
  const path = join(dir, 'kernel');
  writeFileSync(path, kernel);
  const image = await prepareKernel(path, { unpack: false });
  const reserved = [layout.ecam, acpi];
  try {
    return loadGuest(image, {
      memory,
      layout,
      initrdPath: undefined,
      cmdline: 'quiet',
      rsdp: 0xe_0000,
      reserved,
      ...more,
    });
  } finally {
    image.close();
  }
}

function text(gpa: number): string {
  const bytes = memory.bytes(gpa, 64);
  return String.fromCharCode(...bytes.subarray(0, bytes.indexOf(0)));
}

describe('a bzImage', () => {
  it('gets code, zero page, command line and initrd', async () => {
    const kernel = syntheticBzImage();
    kernel.fill(0xc3, 1024);
    const initrdPath = join(dir, 'initrd');
    writeFileSync(initrdPath, new Uint8Array(5000).fill(0x11));
    const boot = await load(kernel, { initrdPath });
    expect(boot).toMatchObject({ mode: 'long', protocol: '64-bit', entry: 0x100_0200 });
    expect(boot.regs).toMatchObject({ rip: 0x100_0200n, rsi: 0x7000n, rflags: 2n });
    expect(memory.bytes(0x100_0000, 8192).every((byte) => byte === 0xc3)).toBe(true);

    const page = memory.bytes(0x7000, PAGE_SIZE);
    expect(readLe(page, 0x202, 4)).toBe(0x5372_6448);
    expect([page[0x210], page[0x1ef]]).toEqual([0xff, 0]);
    expect(text(readLe(page, 0x228, 4))).toBe('quiet');
    expect(readLe(page, 0x070, 8)).toBe(0xe_0000);
    expect(page[0x1e8]).toBe(boot.map.length);

    const initrd = readLe(page, 0x218, 4);
    expect([initrd, readLe(page, 0x21c, 4)]).toEqual([64 * MIB - 8192, 5000]);
    expect(memory.bytes(initrd, 5000).every((byte) => byte === 0x11)).toBe(true);
  });

  it('loads again over what a guest left behind', async () => {
    memory.bytes(0, 64 * MIB).fill(0xaa);
    const kernel = syntheticElf([{ gpa: 4 * MIB, bytes: new Uint8Array(100).fill(1), memorySize: 3 * MIB }]);
    await load(kernel);
    expect(memory.bytes(4 * MIB + 100, 3 * MIB - 100).every((byte) => byte === 0)).toBe(true);
    expect(memory.bytes(7 * MIB, 1)[0]).toBe(0xaa);
    expect(readLe(memory.bytes(0x7000, PAGE_SIZE), 0x250, 8)).toBe(0);
  });

  it('refuses memory, command lines and initrds that do not fit', async () => {
    await expect(load(syntheticBzImage(), { layout: memoryLayout(16 * MIB, 46) })).rejects.toMatchObject({
      code: 'MEMORY_TOO_SMALL',
    });
    await expect(load(syntheticBzImage(), { cmdline: 'x'.repeat(2048) })).rejects.toMatchObject({
      code: 'CMDLINE_TOO_LONG',
    });
    await expect(load(syntheticBzImage(), { initrdPath: join(dir, 'absent') })).rejects.toMatchObject({
      code: 'INITRD_NOT_FOUND',
    });
    await expect(load(syntheticElf([{ gpa: 0x7000, bytes: new Uint8Array(16) }]))).rejects.toMatchObject({
      code: 'KERNEL_INVALID',
    });
  });
});

it('starts a PVH kernel in flat protected mode with start info', async () => {
  const initrdPath = join(dir, 'module');
  writeFileSync(initrdPath, 'module');
  const boot = await load(syntheticElf([{ gpa: MIB, bytes: new Uint8Array(64) }], { pvhEntry: MIB + 4 }), {
    initrdPath,
  });
  expect(boot).toMatchObject({ mode: 'protected', protocol: 'pvh', regs: { rip: BigInt(MIB + 4), rbx: 0x6000n } });
  const info = memory.bytes(0x6000, PAGE_SIZE);
  expect([readLe(info, 0, 4), readLe(info, 4, 4), readLe(info, 12, 4)]).toEqual([0x336e_c578, 1, 1]);
  const module = memory.bytes(readLe(info, 16, 8), 32);
  expect([readLe(module, 0, 8), readLe(module, 8, 8)]).toEqual([boot.initrd!.start, 6]);
  expect(text(readLe(info, 24, 8))).toBe('quiet');
  expect([readLe(info, 32, 8), readLe(info, 48, 4)]).toEqual([0xe_0000, boot.map.length]);
  const entry = memory.bytes(readLe(info, 40, 8), 24);
  expect([readLe(entry, 0, 8), readLe(entry, 8, 8), readLe(entry, 16, 4)]).toEqual([0, 0x9_fc00, 1]);
  const sregs = boot.sregs({ apicBase: 0xfee0_0900n } as SystemRegisters);
  expect(sregs).toMatchObject({ cr0: 0x11n, cr4: 0n, efer: 0n, apicBase: 0xfee0_0900n });
  expect(sregs.cs).toMatchObject({ db: 1, l: 0, limit: 0xffff_ffff, type: 11 });
  expect(sregs.tr).toMatchObject({ type: 11, limit: 0x67, s: 0 });
});

describe('processor state', () => {
  it('has the descriptors that the selectors name', () => {
    const long = new DataView(gdt('long').buffer);
    expect(long.getBigUint64(0x10, true)).toBe(0x00af_9b00_0000_ffffn);
    expect(long.getBigUint64(0x18, true)).toBe(0x00cf_9300_0000_ffffn);
    expect(long.getBigUint64(0x20, true)).toBe(0x0000_8b00_0000_0067n);
    expect(new DataView(gdt('protected').buffer).getBigUint64(0x10, true)).toBe(0x00cf_9b00_0000_ffffn);
  });

  it('maps the first 4 GiB to themselves', () => {
    const base = 0x9000;
    const tables = new BigUint64Array(pageTables(base).buffer);
    const at = (table: bigint, index: number) => tables[(Number(table & ~0xfffn) - base) / 8 + index]!;
    for (const address of [0, 0x100_0000, GIB, 4 * GIB - 1]) {
      const directory = at(tables[0]!, Math.floor(address / GIB));
      const entry = at(directory, Math.floor((address % GIB) / (2 * MIB)));
      expect(entry & 0x83n).toBe(0x83n);
      expect(Number(entry & ~0xfffn)).toBe(address - (address % (2 * MIB)));
    }
  });
});

describe('the memory map', () => {
  it('is ordered, without overlap, and tells RAM from what is reserved', () => {
    const big = memoryLayout(6 * GIB, 46);
    const map = e820(big.ram, [acpi, big.ecam]);
    expect(map).toEqual([
      { start: 0, size: 0x9_fc00, type: 1 },
      { start: 0x9_fc00, size: 0x6_0400, type: 2 },
      { start: MIB, size: 3 * GIB - MIB, type: 1 },
      { ...big.ecam, type: 2 },
      { start: 4 * GIB, size: 3 * GIB, type: 1 },
    ]);
    for (const [index, entry] of map.entries()) {
      for (const other of map.slice(index + 1)) expect(overlaps(entry, other)).toBe(false);
    }
  });

  it('places an initrd high, and above 4 GiB only where that is allowed', () => {
    const usable = usableRam(e820(memoryLayout(6 * GIB, 46).ram, []));
    const kernel = { start: 16 * MIB, size: 64 * MIB };
    expect(placeInitrd(usable, 5000, kernel, 2 * GIB, true)).toBe(2 * GIB - alignUp(5000, PAGE_SIZE));
    const size = 2.5 * GIB;
    expect(placeInitrd(usable, size, kernel, 2 * GIB, false)).toBeUndefined();
    const high = placeInitrd(usable, size, kernel, 2 * GIB, true)!;
    expect(high).toBeGreaterThanOrEqual(4 * GIB);
    expect(endOf({ start: high, size })).toBeLessThanOrEqual(7 * GIB);
  });
});
